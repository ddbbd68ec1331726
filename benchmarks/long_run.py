"""Measure memory, open files and log size of a run over time, and their growth.

    python benchmarks/long_run.py --minutes 12 --every 10 -- fit --config rl_cheetah_run_state.yaml

Runs `difftori` with the arguments after `--`, samples that process and its children from outside, and stops it with
SIGTERM. The table shows the median of each seventh of the run and the Theil-Sen slope of its second half, because the
simulators of an evaluation come and go. `--image memory.png` plots memory over time (needs the extra `plot`).
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import theilslopes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between samples")
    parser.add_argument("--logs", type=Path, default=Path("runs"), help="folder of the run's TensorBoard files")
    parser.add_argument("--image", type=Path, help="plot memory over time into this file")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="arguments of difftori, after --")
    arguments = parser.parse_args()
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    run = subprocess.Popen([sys.executable, "-m", "difftori_pl", *command])
    start, samples = time.monotonic(), []
    while time.monotonic() - start < 60 * arguments.minutes and run.poll() is None:
        time.sleep(arguments.every)
        processes = process_tree(run.pid)
        logs = sum(path.stat().st_size for path in arguments.logs.rglob("events.out.tfevents.*"))
        samples.append(
            [
                (time.monotonic() - start) / 60,
                sum(map(memory, processes)) / 2**20,
                sum(map(n_open_files, processes)),
                logs / 2**20,
            ]
        )
    run.send_signal(signal.SIGTERM)
    run.wait()
    report(np.array(samples))
    if arguments.image:
        plot(np.array(samples), arguments.image)


def plot(samples: np.ndarray, path: Path) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3), layout="constrained")
    axes.plot(samples[:, 0], samples[:, 1])
    axes.set(xlabel="minutes", ylabel="memory, MiB", ylim=(0, 1.2 * samples[:, 1].max()))
    figure.savefig(path, dpi=150)


def report(samples: np.ndarray) -> None:
    medians = [np.median(part, axis=0) for part in np.array_split(samples, 7)]
    late = samples[len(samples) // 2 :]
    print("| minutes | " + " | ".join(f"{row[0]:.1f}" for row in medians) + " | growth in the second half |")
    print("|---" * (len(medians) + 2) + "|")
    names = ("memory, MiB", "1"), ("open files", "0"), ("TensorBoard, MiB", "2")
    for column, (name, digits) in enumerate(names, start=1):
        slope = theilslopes(late[:, column], late[:, 0])[0]
        figures = " | ".join(f"{row[column]:.{digits}f}" for row in medians)
        print(f"| {name} | {figures} | {60 * slope:.2f} an hour |")


def process_tree(pid: int) -> list[int]:
    """Return a process and its running descendants."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(found for child in children for found in process_tree(int(child)))]


def memory(pid: int) -> int:
    """Return the bytes that a process has allocated, with its proportional part of shared memory.

    File-backed pages, such as programs, are excluded: the kernel loads and evicts them at any time.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))


def n_open_files(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


if __name__ == "__main__":
    main()
