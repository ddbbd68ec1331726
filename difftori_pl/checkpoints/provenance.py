"""Describe a module in its checkpoint, and verify that a checkpoint fits the run that loads it."""

from __future__ import annotations

import logging
import platform
import subprocess
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lightning import LightningModule
from torch import Tensor

from datamodules.batch import DataModule
from difftori_pl.checkpoints.reading import KEY, SCHEMA, migrate
from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import CheckpointError
from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.version import __version__

_log = logging.getLogger(__name__)

SIMULATORS = (
    *("mujoco", "dm_control", "robosuite", "robomimic", "metaworld"),
    *("mani_skill2", "sapien", "gym-pusht", "pymunk", "gymnasium"),
)
LIBRARIES = ("torch", "lightning", "numpy", "h5py", "zarr")


def record(module: LightningModule, action_dim: int) -> dict[str, Any]:
    """Describe a module in plain values, for its checkpoint.

    Args:
        module: the trained module.
        action_dim: size A of its actions.

    Returns:
        `schema`, `package` (version), `git_commit` ("" outside a checkout), `versions` of Python, libraries and
        simulators, `module` (class), `task` and `data` (file, bytes, sha256; see `datamodules.formats.fingerprint`),
        which are None if unknown, `left_out` (the fold of the training demonstrations, see `datamodules.batch.Fold`;
        None without one), `action_dim`, `observations` (inputs of the encoders), `normalizers` (name -> keys).
    """
    data = _data(module)
    return {
        "schema": SCHEMA,
        "package": __version__,
        "git_commit": _git_commit(),
        "versions": _versions(),
        "module": type(module).__name__,
        "task": _task(module),
        "data": None if data is None else data.fingerprint,
        "left_out": None if data is None else data.left_out,
        "action_dim": action_dim,
        "observations": _observations(module),
        "normalizers": {
            name: list(part.keys)
            for name, part in module.named_modules()
            if isinstance(part, Normalizer) and bool(part.fitted)
        },
    }


def verify(module: LightningModule, action_dim: int, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint of another task or model, and warn if the data or a simulator's version differ.

    Raises:
        CheckpointError: the checkpoint does not fit; the message names the first difference.
    """
    known = migrate(checkpoint, "the checkpoint")[KEY]
    own = {"action_dim": action_dim, "observations": _observations(module)}
    for name, value in own.items():
        if known.get(name, value) != value:
            raise CheckpointError(
                f"expected a checkpoint with {name} {value}, as in this model, got {known[name]}: use the "
                "configuration of the run that wrote it"
            )
    _verify_shapes(module, checkpoint.get("state_dict", {}))
    trainer = module._trainer
    if trainer is None:
        return
    task = _task(module)
    if trainer.state.fn == "fit" and None not in (task, known.get("task")) and task != known["task"]:
        raise CheckpointError(
            f"expected a checkpoint of the task {task}, got one of {known['task']}: resume with the configuration and "
            "the data of the run that wrote it"
        )
    data = _data(module)
    here = None if data is None else data.fingerprint
    if trainer.state.fn == "fit" and here and known.get("data") and here["sha256"] != known["data"]["sha256"]:
        _log.warning(
            "the data in %s differs from the data that the checkpoint was trained on (%s)",
            here["file"],
            known["data"]["file"],
        )
    there, installed = known.get("versions", {}), _versions()
    for name in SIMULATORS:
        if name in there and name in installed and there[name] != installed[name]:
            _log.warning("the checkpoint was trained with %s %s, installed is %s", name, there[name], installed[name])


def _verify_shapes(module: LightningModule, state: dict[str, Any]) -> None:
    own = module.state_dict()
    for name, value in state.items():
        shape = getattr(own.get(name), "shape", None)
        if isinstance(value, Tensor) and shape != value.shape:
            raise CheckpointError(
                f"expected {name} with shape {shape and tuple(shape)} in the checkpoint, got {tuple(value.shape)}: use "
                "the task and the configuration of the run that wrote it"
            )
    missing = [name for name in own if name not in state]
    if missing:
        raise CheckpointError(
            f"expected {missing[0]} in the checkpoint, got no such weights: use the configuration of the run that "
            "wrote it, or another checkpoint if it is incomplete"
        )


def _observations(module: LightningModule) -> dict[str, dict[str, Any]]:
    return {key: asdict(spec) for key, spec in observation_specs(module).items()}


def _task(module: LightningModule) -> str | None:
    """Return the task of the data, or else of the run's first environment that has one."""
    trainer: Any = module._trainer
    if trainer is None:
        return None
    data = _data(module)
    envs = [part for callback in trainer.callbacks for part in vars(callback).values() if isinstance(part, EnvFactory)]
    return next((str(part.task) for part in (data, *envs) if part is not None and part.task), None)


def _data(module: LightningModule) -> DataModule | None:
    datamodule = None if module._trainer is None else module._trainer.datamodule  # type: ignore[attr-defined]
    return datamodule if isinstance(datamodule, DataModule) else None


@cache
def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in (*LIBRARIES, *SIMULATORS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


@cache
def _git_commit() -> str:
    """Return the commit of the package's checkout, with a plus if files were modified; "" outside a checkout."""
    folder = Path(__file__).parents[2]
    if not (folder / ".git").exists():
        return ""
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
