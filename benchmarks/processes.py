"""Compare the training throughput of one and of several processes, each with one thread.

    python benchmarks/processes.py --processes 1 2 -- --config il_square_low_dim.yaml --data.path square.hdf5

The arguments after `--` are passed to `difftori fit`. Every process takes `data.batch_size` windows per step. Times are
read from TensorBoard; the first quarter of the steps is a warm-up and is left out.
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
    parser.add_argument("--rounds", type=int, default=3, help="number of alternating rounds; the fastest counts")
    parser.add_argument("fit_options", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    fit_options = arguments.fit_options[1:] if arguments.fit_options[:1] == ["--"] else arguments.fit_options
    best = dict.fromkeys(arguments.processes, 0.0)
    for _ in range(arguments.rounds):
        for number in arguments.processes:
            best[number] = max(best[number], steps_per_second(number, arguments.steps, fit_options))
    first = arguments.processes[0]
    print("| processes | steps/s | batches/s over all processes | relative to the first row |\n|---|---|---|---|")
    for number, speed in best.items():
        ratio = number * speed / (first * best[first])
        print(f"| {number} | {speed:.2f} | {number * speed:.2f} | {ratio:.2f} |")


def steps_per_second(n_processes: int, n_steps: int, fit_options: list[str]) -> float:
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
        command = [sys.executable, "-m", "difftori_pl", "fit", *fit_options, *options]
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, stdout=subprocess.DEVNULL)
        log = EventAccumulator(str(next(Path(folder).glob("*/version_0")))).Reload()
        events = [event for event in log.Scalars("train/loss") if event.step >= n_steps / 4]
    return (events[-1].step - events[0].step) / (events[-1].wall_time - events[0].wall_time)


if __name__ == "__main__":
    main()
