"""Measure memory and batch time of an image replay buffer that is larger than its memory limit.

    python benchmarks/replay.py --n_steps 1000000 --memory_limit_gb 2

A million steps of 84x84 images write 21 GB to the folder for temporary files (`TMPDIR`), deleted at the end.
"""

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from datamodules import ReplayDataModule

EPISODE_STEPS = 500


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n_steps", type=int, default=100_000)
    parser.add_argument("--memory_limit_gb", type=float, default=0.5)
    parser.add_argument("--batch_size", type=int, default=256)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    replay = ReplayDataModule(
        arguments.horizon, arguments.batch_size, arguments.n_steps, memory_limit_gb=arguments.memory_limit_gb
    )
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (EPISODE_STEPS + 1, 9, 84, 84), dtype=np.uint8)
    actions, rewards = rng.random((EPISODE_STEPS, 6)), rng.random(EPISODE_STEPS)
    before = anonymous_memory()
    start = time.perf_counter()
    for _ in range(arguments.n_steps // EPISODE_STEPS):
        replay.add({"pixels": pixels}, actions, rewards, False)
    elapsed = time.perf_counter() - start
    assert replay._log is not None
    on_disk = sum(path.stat().st_size for path in Path(replay._log.folder).iterdir())
    grown = anonymous_memory() - before
    wall, cpu = [], []
    for _ in range(arguments.repeats):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        replay.sample()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    print("| steps | files, GB | memory, GB | added per second | batch, ms: first / median / smallest | CPU, ms |")
    print("|---|---|---|---|---|---|")
    print(
        f"| {len(replay):,} | {on_disk / 1e9:.1f} | {grown / 1e9:.2f} | {arguments.n_steps / elapsed:,.0f} "
        f"| {1000 * wall[0]:.0f} / {1000 * statistics.median(wall):.0f} / {1000 * min(wall):.0f} "
        f"| {1000 * statistics.median(cpu):.0f} |"
    )


def anonymous_memory() -> int:
    """Return the bytes of this process that no file backs (Linux); the system may drop file-backed pages."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("RssAnon:")[1].split()[0])


if __name__ == "__main__":
    main()
