"""Building a part of a module, as a base policy or a critic, out of the checkpoint of a run."""

from __future__ import annotations

from typing import Any, TypeVar

from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor, nn

from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.errors import CheckpointError

Part = TypeVar("Part", bound=nn.Module)


def load_part(checkpoint: str, name: str, kind: type[Part], what: str, remedy: str) -> tuple[Part, dict[str, Any]]:
    """Build what a module kept as its attribute, and give it the weights that it had.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file.
        name: of the attribute, which is that of the argument too.
        kind: its class, or one above.
        what: what it is, for messages.
        remedy: where to get such a checkpoint, for messages.

    Returns:
        The part and the content of the checkpoint.

    Raises:
        CheckpointError: there is no such file, or it has no such part, or one that cannot be built here.
    """
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
    """Build a part with fresh parameters from its class path and arguments; `origin` is named in errors."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=kind)
    try:
        part: Part = parser.instantiate(parser.parse_object({"part": config})).part
    except ArgumentError as error:
        raise CheckpointError(f"{origin} describes a part that cannot be built here: {beginning(error)}") from error
    return part


def load_weights(part: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Put `weights` into a part; all of them must fit."""
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {origin} do not fit the part it describes: {error}") from error


def beginning(error: BaseException) -> BaseException:
    """What an error began with: jsonargparse repeats it for each level of a configuration."""
    return error if error.__cause__ is None else beginning(error.__cause__)
