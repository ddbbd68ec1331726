"""Checkpoints of a released version, and changes to the folder of a shared policy."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from difftori_pl import load_policy
from tests.checkpoints.write import FOLDER

CHECKPOINTS = sorted(FOLDER.glob("*/*.ckpt"))
IL = next(path for path in CHECKPOINTS if path.stem == "il")
BC = next(path for path in CHECKPOINTS if path.stem == "bc_rnn")


def actions(place: Path, n_steps: int = 4) -> np.ndarray:
    policy, random = load_policy(place), np.random.default_rng(0)
    torch.manual_seed(0)
    observations = [
        {key: random.normal(size=spec.shape) for key, spec in policy.obs_specs.items()} for _ in range(n_steps)
    ]
    return np.stack([policy.act(observation) for observation in observations])


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def describe(folder: Path, *path: str, value: Any) -> None:
    """Set a value in the description of the model."""
    config = json.loads((folder / "config.json").read_text())
    owner = config["hyper_parameters"]
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))
