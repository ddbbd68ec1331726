"""Measure a training step of BC-RNN-GMM on a CPU under several settings of threads and memory.

    python benchmarks/threads.py --busy 0 1

Each setting runs in a fresh process, alone or next to processes that keep one core busy each, in alternating rounds;
the median of all steps counts. "as set by the program" imports nothing before `set_up_processor`.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time

VARIABLES = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**25), "MALLOC_TRIM_THRESHOLD_": str(2**30)}
SETTINGS: dict[str, dict[str, str]] = {
    "torch's own": {},
    "PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "PASSIVE, malloc": {"OMP_WAIT_POLICY": "PASSIVE"} | MALLOC,
    "spin count 1000, malloc": {"GOMP_SPINCOUNT": "1000"} | MALLOC,
    "1 thread": {"OMP_NUM_THREADS": "1"},
    "1 thread, malloc": {"OMP_NUM_THREADS": "1"} | MALLOC,
    "as set by the program": {},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 1], help="numbers of busy processes")
    parser.add_argument("--steps", type=int, default=10, help="steps per process and round, after three more")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--step", choices=["plain", "program"], help="used internally: run the steps in this process")
    arguments = parser.parse_args()
    if arguments.step:
        train(arguments.steps, arguments.step == "program")
        return
    times: dict[tuple[str, int], list[float]] = {}
    for _ in range(arguments.rounds):
        for n_busy in arguments.busy:
            others = [multiprocessing.Process(target=spin, daemon=True) for _ in range(n_busy)]
            for process in others:
                process.start()
            for name, variables in SETTINGS.items():
                times.setdefault((name, n_busy), []).extend(measure(name, variables, arguments.steps))
            for process in others:
                process.kill()
    print(f"load {' '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores\n")
    print(f"| seconds per step, median | {' | '.join(f'{n} busy processes' for n in arguments.busy)} |")
    print("|---|" + "---|" * len(arguments.busy))
    for name in SETTINGS:
        print(f"| {name} | {' | '.join(f'{statistics.median(times[name, n]):.3f}' for n in arguments.busy)} |")


def spin() -> None:
    while True:
        pass


def measure(name: str, variables: dict[str, str], n_steps: int) -> list[float]:
    kind = "program" if name == "as set by the program" else "plain"
    environment = {key: value for key, value in os.environ.items() if key not in VARIABLES} | variables
    command = [sys.executable, __file__, f"--steps={n_steps}", f"--step={kind}"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return [float(line) for line in done.stdout.split()]


def train(n_steps: int, by_program: bool) -> None:
    """Print the seconds of each step of robomimic's low-dimensional BC-RNN-GMM: 400 units, 100 windows of 10."""
    if by_program:
        from difftori_pl.runtime.processor import set_up_processor

        set_up_processor()
    import torch

    from difftori_pl.models.base_policies import BCRNNGMM
    from difftori_pl.models.encoders import StateEncoder

    torch.manual_seed(0)
    policy = BCRNNGMM(StateEncoder({"object": 23}, latent_dim=None), action_dim=7, hidden_dim=400)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-4)
    obs, actions = {"object": torch.randn(100, 10, 23)}, torch.rand(100, 10, 7) * 2 - 1
    for number in range(n_steps + 3):
        start = time.perf_counter()
        mixture, _ = policy(obs, policy.initial_state(100))
        loss = -mixture.log_prob(actions).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if number >= 3:
            print(time.perf_counter() - start)


if __name__ == "__main__":
    main()
