"""Count the successes of the scripted experts with the installed version of robosuite.

    python benchmarks/experts.py

Prints a line of the table in `results/robosuite.md` for each task. Episode i starts from the state of seed i, which is
another state in another version of robosuite.
"""

import argparse
import time
from importlib.metadata import version

import numpy as np

from difftori_pl.demos import EXPERTS, RobosuitePlayer
from difftori_pl.evaluation.proportion import wilson


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, default=50, help="number of episodes of each task")
    episodes = parser.parse_args().episodes
    print(f"MuJoCo {version('mujoco')}, numpy {np.__version__}\n")
    print("| task | robosuite | success (Wilson 95 %) | failed seeds | steps, mean | processor time, s |")
    print("|---|---|---|---|---|---|", flush=True)
    for task in sorted(EXPERTS):
        start = time.process_time()
        played = [RobosuitePlayer(task).play(seed) for seed in range(episodes)]
        seconds = time.process_time() - start
        lengths = [len(episode.arrays["actions"]) for episode in played if episode]
        failed = ", ".join(str(seed) for seed, episode in enumerate(played) if episode is None) or "none"
        success = str(wilson(len(lengths), episodes))
        row = [task, version("robosuite"), success, failed, f"{np.mean(lengths):.0f}", f"{seconds:.0f}"]
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
