"""Read and write the folder of a shared policy: weights as safetensors and a configuration in JSON."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from difftori_pl.checkpoints.migrations import KEY, migrate
from difftori_pl.checkpoints.named_classes import check_classes
from difftori_pl.errors import CheckpointError, MissingPackageError

CONFIG, WEIGHTS, CARD = "config.json", "model.safetensors", "README.md"
FILES = (CONFIG, WEIGHTS, CARD)
"""The files of a folder; others are not read."""

_PARTS = ("hyper_parameters", "interface", KEY)
_VALUES = ("epoch", "global_step", "pytorch-lightning_version")
_INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"


def is_shared(path: str | os.PathLike[str]) -> bool:
    """Return whether a path is the folder of a shared policy, complete or not, and not that of a run."""
    return any((Path(path) / name).is_file() for name in (CONFIG, WEIGHTS))


def write_shared(content: Mapping[str, Any], folder: Path) -> None:
    """Write the weights and the configuration of a checkpoint into an existing folder, and flush them to the disk.

    Args:
        content: a checkpoint as `read_checkpoint` returns it. The states of the optimiser and of the run are left out.
        folder: the folder.

    Raises:
        CheckpointError: the checkpoint does not describe its model, or holds values that JSON cannot hold.
        MissingPackageError: safetensors is not installed.
    """
    save = _safetensors().save
    weights = {name: value.clone().contiguous() for name, value in content["state_dict"].items()}
    data = save(weights, {"format": "pt"})
    config = {name: content.get(name) for name in _VALUES} | {name: content.get(name) or {} for name in _PARTS}
    config["hyper_parameters"] = {
        name: value for name, value in config["hyper_parameters"].items() if name != "_instantiator"
    }
    config["weights"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    try:
        text = json.dumps(config, indent=1)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"expected a configuration of plain values, got one that JSON cannot hold ({error}): exchange the .ckpt "
            "file instead"
        ) from error
    for name, written in ((WEIGHTS, data), (CONFIG, text.encode() + b"\n")):
        write_flushed(folder / name, written)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file and flush it to the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def read_shared(path: str | os.PathLike[str], allow: Sequence[str] | None = ()) -> dict[str, Any]:
    """Read the folder of a shared policy; nothing in it is executed or imported.

    Args:
        path: the folder.
        allow: import paths of classes outside this package that the caller trusts; None accepts all, for a caller that
            builds none.

    Returns:
        The content of a checkpoint: `state_dict`, `hyper_parameters`, `interface` and the description.

    Raises:
        CheckpointError: a file is missing or damaged, a class is not allowed, or a later version wrote the folder.
        MissingPackageError: safetensors is not installed.
    """
    folder = Path(path)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"expected {CONFIG} and {WEIGHTS} in {folder}, got no {name}: copy the folder again, or write it with "
                "`difftori share`"
            )
    config = _config(folder / CONFIG)
    content = {name: config[name] for name in (*_VALUES, *_PARTS)}
    try:
        migrate(content, str(folder / CONFIG))
        for spec in content[KEY].get("observations", {}).values():
            spec["shape"] = tuple(spec["shape"])  # JSON has no tuples
    except (AttributeError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"expected kind, shape and dtype of each observation in {folder / CONFIG}, got none: copy the folder again"
        ) from error
    if allow is not None:
        check_classes(content["hyper_parameters"], allow, str(folder))
    content["hyper_parameters"]["_instantiator"] = _INSTANTIATOR
    return content | {"state_dict": _weights(folder / WEIGHTS, config["weights"])}


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_bytes())
        kinds = [type(config[name]) for name in (*_PARTS, "weights")]
        for name in _VALUES:
            _ = config[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no configuration of a shared policy ({type(error).__name__}: {error}): copy the folder again"
        ) from error
    if kinds != [dict] * len(kinds):
        raise CheckpointError(
            f"expected dictionaries in {path}, got {', '.join(kind.__name__ for kind in kinds)}: copy the folder again"
        )
    found: dict[str, Any] = config
    return found


def _weights(path: Path, expected: Mapping[str, Any]) -> dict[str, Tensor]:
    data = path.read_bytes()
    if len(data) != expected.get("bytes"):
        raise CheckpointError(
            f"expected {expected.get('bytes')} bytes in {path}, got {len(data)}: the file is incomplete, copy it again"
        )
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise CheckpointError(f"the check sum of {path} differs from that in {CONFIG}: copy the folder again")
    module = _safetensors()
    try:
        weights: dict[str, Tensor] = module.load(data)
    except Exception as error:  # the library raises its own type, KeyError and ValueError
        raise CheckpointError(f"{path} cannot be read as safetensors ({error}): copy it again") from error
    return weights


def _safetensors() -> Any:
    try:
        import safetensors.torch
    except ImportError as error:
        raise MissingPackageError("shared policies need safetensors: pip install 'difftori-pl[hub]'") from error
    return safetensors.torch
