"""Report the demo: success rates with a paired test, a plot, a video of both policies, and the learned objective.

    python setup/demo_report.py runs/demo/20260101-120000

Reads the folder that setup/demo.sh has written.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

from difftori_pl.callbacks.episodes import Episode, run_episodes
from difftori_pl.callbacks.video import save_mp4
from difftori_pl.commands.plot import plot_landscape
from difftori_pl.deployment.deploy import load_module
from difftori_pl.envs import MetaWorld
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.evaluation.paired import compare
from difftori_pl.evaluation.proportion import wilson
from difftori_pl.models.policy import Policy

NAMES = {"base": "miscalibrated controller", "policy": "DiffTORI on it"}
TASK = "reach-v3"


def main(run: Path) -> None:
    """Print the table and write the pictures of a run."""
    outcomes = {name: read(run / "test", name) for name in NAMES}
    rates = {name: wilson(sum(found.values()), len(found)) for name, found in outcomes.items()}
    gained = [seed for seed, success in outcomes["policy"].items() if success and not outcomes["base"][seed]]
    lines = [f"| {TASK}, ten demonstrations | success (Wilson 95 %) |", "|---|---|"]
    lines += [f"| {label} | {rates[name]} |" for name, label in NAMES.items()]
    lines += ["", str(compare(outcomes["policy"], outcomes["base"])), "", f"success rates:  {draw(run, rates)}"]
    if gained:
        lines.append(f"video:          {film(run, gained[0])}  (left: the controller, right: DiffTORI)")
    plot_landscape(
        MetaWorld(TASK, ["state"]),
        run / "difftori" / "checkpoints" / "best.ckpt",
        run / "landscape.png",
        gained[0] if gained else 100_000,
        n_samples=1,
    )
    lines += [
        f"objective:      {run / 'landscape_0.png'}",
        f"TensorBoard:    .venv/bin/tensorboard --logdir {run}",
        "",
        "Next, with your own robomimic file: difftori data check FILE, and the recipes in README.md.",
    ]
    print("\n" + "\n".join(lines))


def read(folder: Path, name: str) -> dict[int, bool]:
    """Read the success of each episode by its seed."""
    (path,) = folder.glob(f"rollouts_step*_{name}.jsonl")
    episodes = map(json.loads, path.read_text().splitlines())
    return {episode["seed"]: bool(episode["success"]) for episode in episodes}


def draw(run: Path, rates: dict[str, object]) -> Path:
    """Draw the success rates with their intervals."""
    figure = Figure(figsize=(4.5, 1.8), layout="constrained")
    panel = figure.subplots()
    for place, (name, rate) in enumerate(rates.items()):
        panel.plot([rate.low, rate.high], [place, place], color=f"C{place}", linewidth=3)  # type: ignore[attr-defined]
        panel.plot(rate.rate, place, "o", color=f"C{place}")  # type: ignore[attr-defined]
        del name
    panel.set_yticks(range(len(NAMES)), list(NAMES.values()))
    panel.set(xlabel="success rate (Wilson 95 %)", ylim=(-0.6, len(NAMES) - 0.4))
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    figure.savefig(run / "success.png", dpi=150)
    return run / "success.png"


def film(run: Path, seed: int) -> Path:
    """Write a video of both policies from one initial state, next to each other; the shorter one waits at its end."""
    module = load_module(run / "difftori" / "checkpoints" / "best.ckpt")
    pool = LocalPool(MetaWorld(TASK, ["state"]), 1)
    policies: list[Policy] = [module.base_policy, module]
    episodes: list[Episode] = []
    for policy in policies:
        torch.manual_seed(0)
        episodes += run_episodes(policy, pool, [seed], torch.device("cpu"), n_videos=1)
    length = max(len(episode.frames) for episode in episodes)
    sides = [episode.frames + [episode.frames[-1]] * (length - len(episode.frames)) for episode in episodes]
    path = run / f"both_seed{seed}.mp4"
    save_mp4(path, [np.concatenate(pair, axis=1) for pair in zip(*sides, strict=True)], fps=20)
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]))
