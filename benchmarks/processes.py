"""Training throughput of one process and of several, each with one thread, as a table.

    python benchmarks/processes.py --processes 1 2 -- --config il_square_low_dim.yaml --data.path square.hdf5

The words behind `--` go to `difftori fit`. Every process takes `data.batch_size` windows a step. Time is taken from
TensorBoard, from a quarter of the steps to the end; what comes before warms up.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3, help="rounds in turns, of which the fastest counts")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    best = dict.fromkeys(arguments.processes, 0.0)
    for _ in range(arguments.rounds):
        for number in arguments.processes:
            best[number] = max(best[number], steps_per_second(number, arguments.steps, words))
    first = arguments.processes[0]
    print("| processes | steps a second | batches of one process a second | against the first row |\n|---|---|---|---|")
    for number, speed in best.items():
        ratio = number * speed / (first * best[first])
        print(f"| {number} | {speed:.2f} | {number * speed:.2f} | {ratio:.2f} |")


def steps_per_second(n_processes: int, n_steps: int, words: list[str]) -> float:
    with TemporaryDirectory() as folder:
        options = [
            f"--trainer.devices={n_processes}",
            f"--trainer.strategy={'ddp' if n_processes > 1 else 'auto'}",
            f"--trainer.max_steps={n_steps}",
            "--trainer.log_every_n_steps=10",
            "--trainer.limit_val_batches=0",
            "--trainer.enable_progress_bar=false",
            f"--trainer.logger.save_dir={folder}",
            "--rollout.env=null",
        ]
        command = [sys.executable, "-m", "difftori_pl", "fit", *words, *options]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)
        log = EventAccumulator(str(next(Path(folder).glob("*/version_0")))).Reload()
        events = [event for event in log.Scalars("train/loss") if event.step >= n_steps / 4]
    return (events[-1].step - events[0].step) / (events[-1].wall_time - events[0].wall_time)


if __name__ == "__main__":
    main()
