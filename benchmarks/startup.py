"""Measure how long the commands take to start, in seconds of processor time and as ratios to `import torch`.

    python benchmarks/startup.py

Each command runs in a fresh process, in alternating rounds; the round with the least processor time counts, because
other processes on the machine only add time. A mistake in the words of `fit` is compared with `import lightning`
as well.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np

PROGRAM = ["-m", "difftori_pl"]
FIT = [*PROGRAM, "fit", "--config=bc_rnn_square_low_dim.yaml"]
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import lightning": ["-c", "import lightning"],
    "import difftori_pl.cli": ["-c", "import difftori_pl.cli"],
    "difftori --help": [*PROGRAM, "--help"],
    "difftori data check (20 demos)": [*PROGRAM, "data", "check", "demos.hdf5"],
    "difftori table robomimic": [*PROGRAM, "table", "robomimic", "--runs=runs"],
    "difftori checkpoint show --help": [*PROGRAM, "checkpoint", "show", "--help"],
    "difftori checkpoint show": [*PROGRAM, "checkpoint", "show", "none.ckpt"],
    "difftori demos --help": [*PROGRAM, "demos", "--help"],
    "difftori plot --help": [*PROGRAM, "plot", "--help"],
    "difftori fitt": [*PROGRAM, "fitt"],
    "fit: missing configuration": [*PROGRAM, "fit", "--config=bc_rnn_sqare.yaml"],
    "fit: misspelt option": [*FIT, "--data.pth=demos.hdf5"],
    "fit: wrong value": [*FIT, "--data.batch_size=abc"],
    "fit: missing data file": [*FIT, "--data.path=none.hdf5"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of alternating rounds; the fastest counts")
    parser.add_argument("--only", default="", help="measure only the commands that contain this text, and the imports")
    arguments = parser.parse_args()
    chosen = {name: words for name, words in COMMANDS.items() if name.startswith("import") or arguments.only in name}
    best = dict.fromkeys(chosen, float("inf"))
    with TemporaryDirectory() as folder:
        write_files(Path(folder))
        for _ in range(arguments.rounds):
            for name, words in chosen.items():
                best[name] = min(best[name], processor_seconds(words, folder))
    print(f"load {' '.join(f'{load:.1f}' for load in os.getloadavg())}, {os.cpu_count()} cores\n")
    print("| command | processor time, s | relative to import torch | to import lightning |\n|---|---|---|---|")
    for name, seconds in best.items():
        torch, lightning = seconds / best["import torch"], seconds / best["import lightning"]
        print(f"| {name} | {seconds:.2f} | {torch:.2f} | {lightning:.2f} |")


def processor_seconds(words: list[str], folder: str) -> float:
    """Run Python with these arguments and return the user and system time of the process and its children."""
    root = str(Path(__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": root},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, _, usage = os.wait4(process.pid, 0)
    process.returncode = 0
    return usage.ru_utime + usage.ru_stime


def write_files(folder: Path) -> None:
    """Write a file of 20 demonstrations of 100 steps, and an evaluated run."""
    random = np.random.default_rng(0)
    sizes = {"object": 14, "robot0_eef_pos": 3, "robot0_eef_quat": 4, "robot0_gripper_qpos": 2}
    with h5py.File(folder / "demos.hdf5", "w") as file:
        file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "NutAssemblySquare"})
        for number in range(20):
            demo = file.create_group(f"data/demo_{number}")
            demo.attrs["num_samples"] = 100
            demo["actions"] = random.uniform(-1, 1, (100, 7))
            for key, size in sizes.items():
                demo[f"obs/{key}"] = random.normal(size=(100, size))
    run = folder / "runs" / "il_square" / "version_0"
    run.mkdir(parents=True)
    described = {"stage": "test", "task": "NutAssemblySquare", "method": "DiffTORIIL + BCRNNGMM", "horizon": 1}
    (run / "rollouts_step0_policy.json").write_text(json.dumps(described))
    episodes = [json.dumps({"seed": seed, "success": seed % 2 == 0, "max_reward": 1.0}) for seed in range(50)]
    (run / "rollouts_step0_policy.jsonl").write_text("\n".join(episodes))


if __name__ == "__main__":
    main()
