"""Write a trained policy as a folder that others can load without running its code."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch

from difftori_pl.checkpoints.folders import resolve
from difftori_pl.checkpoints.named_classes import foreign_classes
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.checkpoints.shared_folder import CARD, write_flushed, write_shared
from difftori_pl.deployment.deploy import load_module
from difftori_pl.deployment.model_card import model_card
from difftori_pl.errors import CheckpointError, ExportError
from difftori_pl.evaluation.action_errors import ActionErrors, errors_of
from difftori_pl.evaluation.checkpoint_rollouts import Rollouts, rollouts_of


@dataclass(frozen=True)
class Shared:
    """Description of a written folder.

    Attributes:
        n_weights: number of numbers in the weights.
        rollouts: results in the model card.
        errors: errors on held-out episodes in the model card; None if there are none.
        foreign: import paths of classes outside this package, which a reader must allow.
    """

    n_weights: int
    rollouts: list[Rollouts]
    errors: ActionErrors | None
    foreign: list[str]


def share(checkpoint: Path, output: Path, name: str | None = None) -> Shared:
    """Write the weights, the configuration and a model card of a trained policy.

    The folder appears under its name only when it is complete and the policy in it has been loaded.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file, or the folder of the run.
        output: the folder to write, which must be new or empty.
        name: where others load the policy from, for the model card; the name of the folder if not given.

    Raises:
        ExportError: the folder is not empty, or cannot be written.
        CheckpointError: the checkpoint cannot be loaded.
        MissingPackageError: safetensors is not installed.
    """
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ExportError(f"expected a new or empty folder, got {output}, which exists: choose another --output")
    path = resolve(str(checkpoint))
    content = read_checkpoint(path, "training writes them to <log folder>/checkpoints/")
    module = load_module(path)
    # Lightning's own entry; a reader sets it again.
    described = {name: value for name, value in content["hyper_parameters"].items() if name != "_instantiator"}
    foreign = foreign_classes(described)
    rollouts = rollouts_of(Path(path), _step(content), _selected(content, Path(path)))
    errors = errors_of(Path(path), int(content.get("global_step", 0)))
    card = model_card(content, rollouts, errors, foreign, name or output.name)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(mkdtemp(dir=output.parent, prefix=f".{output.name}."))
        try:
            write_shared(content, draft)
            write_flushed(draft / CARD, card.encode())
            _compare(module.state_dict(), load_module(draft, allow=foreign).state_dict())
            draft.chmod(0o777 & ~_umask())  # mkdtemp's folder is readable by its owner only
            draft.replace(output)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ExportError(f"{output} cannot be written ({error}): choose another --output") from error
    return Shared(sum(value.numel() for value in content["state_dict"].values()), rollouts, errors, foreign)


def _step(content: Mapping[str, Any]) -> int:
    """Return the number that names the files of rollouts: environment steps if the module counts them, else updates."""
    return int(content["state_dict"].get("env_step", content.get("global_step", 0)))


def _selected(content: Mapping[str, Any], path: Path) -> bool:
    """Return whether rollouts selected the checkpoint; the state of a callback is saved under its monitor."""
    monitors = [str(key) for key in content.get("callbacks", {}) if "'monitor': 'rollout/" in str(key)]
    return bool(monitors) and path.stem.startswith("best")


def _compare(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> None:
    """Refuse weights that differ in any bit."""
    for name, value in ours.items():
        # As bytes, because a buffer may hold NaN, which does not equal itself.
        bits, others = (part.contiguous().reshape(-1).view(torch.uint8) for part in (value, theirs[name]))
        if value.dtype != theirs[name].dtype or not torch.equal(bits, others):
            raise CheckpointError(f"the weights {name!r} differ after writing: exchange the .ckpt file instead")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
