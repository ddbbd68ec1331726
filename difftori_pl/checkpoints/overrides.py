"""Command-line options that change the model of a checkpoint."""

import inspect
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning_utilities.core.rank_zero import rank_zero_info

from difftori_pl.errors import ConfigurationError


def value_overrides(arguments: Sequence[str], model: Namespace) -> list[str]:
    """Return the command-line arguments that set plain values of a checkpoint's model.

    Options that select a class are ignored. So are options of a part that was read from a file, such as the checkpoint
    of a base policy: the run's checkpoint describes the part itself.
    """
    found: list[str] = []
    selected = False
    for argument in arguments:
        if argument.startswith(("--", "-c")):
            section, *path = argument.partition("=")[0].split(".")
            selected = section == "--model" and _leads_to_value(model, path)
        if selected:
            found.append(argument)
    return found


def refuse_other_parts(arguments: Sequence[str], requested: Any, restored: Any) -> None:
    """Refuse options that select another part than the model of a checkpoint has: they would have no effect.

    A function that reads a part from a file (`from_checkpoint`) is only reported as ignored: the checkpoint already
    holds the part, and a restart repeats the options of the first run.

    Args:
        arguments: the command line.
        requested: the model that the command line and the configurations describe.
        restored: the model that the checkpoint describes, including the values of `value_overrides`.

    Raises:
        ConfigurationError: an option has no effect; the message names it and the part of the checkpoint.
    """
    for argument in arguments:
        option = argument.partition("=")[0]
        section, *path = option.split(".")
        if section != "--model" or _leads_to_value(restored, path):
            continue
        ours, theirs = requested, restored
        for depth, name in enumerate(path, 1):
            ours, theirs = _argument(ours, name), _argument(theirs, name)
            if isinstance(ours, Namespace) and not _is_class(ours):
                rank_zero_info(f"{option} is ignored: the checkpoint of this run already holds the part")
                break
            wanted, found = (part.get("class_path") if isinstance(part, Namespace) else part for part in (ours, theirs))
            if found != wanted or (depth == len(path) and ours != theirs):
                raise ConfigurationError(
                    f"{option} would have no effect, because --ckpt_path restores the checkpoint's part ({found}): "
                    "remove the option, change single values of the part, or train a new model without --ckpt_path"
                )


def match_schedule_length(requested: Any, restored: Any, max_steps: int) -> None:
    """Extend the learning-rate schedule of a checkpoint's model to the new `trainer.max_steps`.

    Applies only if the schedule of the configuration ends with the run.

    Args:
        requested: the model that the command line and the configurations describe.
        restored: the model that the checkpoint describes, with the length of the earlier run; changed in place.
        max_steps: number of updates of this run.
    """
    ours, theirs = _argument(requested, "lr_scheduler"), _argument(restored, "lr_scheduler")
    if not (_is_class(ours) and _is_class(theirs) and ours.class_path == theirs.class_path):
        return
    for name, value in ours.init_args.items():
        if value == max_steps:
            theirs.init_args[name] = value


def _is_class(part: Any) -> bool:
    """Return whether a part of a configuration is built by a class, not by a function or a plain value."""
    return isinstance(part, Namespace) and "class_path" in part and inspect.isclass(resolve_name(part.class_path))


def _argument(part: Any, name: str) -> Any:
    """Return an argument of a part of a configuration, or None if it has no such argument."""
    if isinstance(part, Namespace) and "init_args" in part and name != "init_args":
        part = part.init_args
    return part.get(name) if isinstance(part, Namespace) else None


def _leads_to_value(part: Any, path: Sequence[str]) -> bool:
    """Return whether a path, which may omit `init_args`, leads to a plain value and not to a part."""
    for name in path[:-1]:
        part = _argument(part, name)
    if isinstance(part, Namespace) and "init_args" in part:
        part = part.init_args
    return bool(path) and isinstance(part, Namespace) and path[-1] in part and not isinstance(part[path[-1]], Namespace)
