"""Find the rollouts of a checkpoint, and of its base policy, in the files of its run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from difftori_pl.evaluation.proportion import Proportion, wilson
from difftori_pl.evaluation.run_files import descriptions_of


@dataclass(frozen=True)
class Rollouts:
    """Rollouts of one policy.

    Attributes:
        policy: `policy` for the trained policy, `base` for its base policy.
        method: classes of the policy and its base policies.
        success: success rate with its interval; a crashed episode counts as a failure.
        stage: `test` or `fit`.
        seeds: the first and the last seed of the initial states.
        is_biased: whether the checkpoint was selected on these initial states, so that the rate is too high.
    """

    policy: str
    method: str
    success: Proportion
    stage: str
    seeds: tuple[int, int]
    is_biased: bool


def rollouts_of(checkpoint: Path, step: int, selected: bool) -> list[Rollouts]:
    """Read the rollouts of a checkpoint, those by `test` if there are some, else those in training.

    Args:
        checkpoint: a `.ckpt` file; see `descriptions_of`.
        step: environment steps in reinforcement learning, else updates, after which the checkpoint was saved.
        selected: whether the checkpoint was selected by rollouts in training.

    Returns:
        The rollouts of each policy, the trained policy first; empty if there are none.
    """
    found: dict[tuple[str, str], dict[int, list[Path]]] = {}
    for path, description in descriptions_of(checkpoint, "rollouts_step*_*.json"):
        at, policy = path.stem.removeprefix("rollouts_step").split("_", 1)
        if int(at) == step or policy != "policy":
            found.setdefault((description["stage"], policy), {}).setdefault(int(at), []).append(path)
    stage = "test" if ("test", "policy") in found else "fit"
    if (stage, "policy") not in found:
        return []
    # In training, the base policy is evaluated once, at another step.
    chosen = {name: at.get(step) or at[max(at)] for (of, name), at in found.items() if of == stage}
    results = [_read(name, paths, selected) for name, paths in chosen.items()]
    return sorted((result for result in results if result), key=lambda result: result.policy != "policy")


def _read(policy: str, paths: list[Path], selected: bool) -> Rollouts | None:
    episodes = {episode["seed"]: episode for path in paths for episode in _episodes(path)}
    if not episodes or all(episode.get("crash") for episode in episodes.values()):
        return None
    description = json.loads(paths[-1].read_text())
    stage = str(description["stage"])
    first, n_states = description.get("selected_on") or (0, 0)
    of_selection = range(first, first + n_states)
    biased = policy == "policy" and selected and (stage == "fit" or any(seed in of_selection for seed in episodes))
    n_successes = sum(bool(episode["success"]) for episode in episodes.values())
    success = wilson(n_successes, len(episodes))
    return Rollouts(policy, description["method"], success, stage, (min(episodes), max(episodes)), biased)


def _episodes(path: Path) -> Iterator[dict[str, Any]]:
    for lines in sorted(path.parent.glob(f"{path.stem}*.jsonl")):  # one per rank
        yield from map(json.loads, lines.read_text().splitlines())
