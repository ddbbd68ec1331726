"""Build a part of a module, such as a base policy or a critic, from the checkpoint of a run."""

from __future__ import annotations

from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from difftori_pl.checkpoints.folders import resolve
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.errors import CheckpointError

Part = TypeVar("Part", bound=nn.Module)


def load_part(checkpoint: str, name: str, kind: type[Part], what: str, remedy: str) -> tuple[Part, dict[str, Any]]:
    """Build an attribute of a checkpoint's module and load its weights.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file, or the folder of the run.
        name: name of the attribute, which is also the name of the module's argument.
        kind: class or base class of the part.
        what: name of the part for error messages.
        remedy: how to get such a checkpoint, for error messages.

    Returns:
        The part and the content of the checkpoint.

    Raises:
        CheckpointError: the file does not exist, lacks the part, or describes a part that this version cannot build.
    """
    checkpoint = resolve(checkpoint)
    content = read_checkpoint(checkpoint, remedy)
    config = content.get("hyper_parameters", {}).get(name)
    prefix = f"{name}."
    state = content.get("state_dict", {})
    weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    if not config or not weights:
        raise CheckpointError(f"{checkpoint} does not hold a {what}; {remedy}")
    part = build(config, kind, checkpoint)
    load_weights(part, weights, checkpoint)
    return part, content


def build(config: dict[str, Any], kind: type[Part], origin: str) -> Part:
    """Build a part with untrained parameters from its class path and arguments; `origin` is named in errors."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=kind)
    try:
        part: Part = parser.instantiate(parser.parse_object({"part": config})).part
    except ArgumentError as error:
        raise CheckpointError(
            f"{origin} describes a part that this version cannot build: {beginning(error)}: install the version that "
            "wrote it, or train again"
        ) from error
    return part


def load_weights(part: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Load `weights` into a part; names and shapes must match exactly."""
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {origin} do not fit the part it describes: {error}") from error


def beginning(error: BaseException) -> BaseException:
    """Return the root cause of an error: jsonargparse repeats it for each level of a configuration."""
    return error if error.__cause__ is None else beginning(error.__cause__)
