"""What the words of a command line may change of the model that a checkpoint describes."""

import inspect
from collections.abc import Sequence
from pkgutil import resolve_name
from typing import Any

from jsonargparse import Namespace
from lightning_utilities.core.rank_zero import rank_zero_info

from difftori_pl.errors import ConfigurationError


def changes(words: Sequence[str], model: Namespace) -> list[str]:
    """Return the words of a command line that set single values of a checkpoint's model.

    Words that select a part are left out. So are words for a part that was read from a file, such as the checkpoint of
    a base policy: the checkpoint describes the part itself.
    """
    found: list[str] = []
    chosen = False
    for word in words:
        if word.startswith(("--", "-c")):
            section, *path = word.partition("=")[0].split(".")
            chosen = section == "--model" and _leads_to_value(model, path)
        if chosen:
            found.append(word)
    return found


def refuse_other_parts(words: Sequence[str], asked: Any, kept: Any) -> None:
    """Refuse words that choose another part than the model of a checkpoint has: they would have no effect.

    A function that reads a part from a file (`from_checkpoint`) is accepted with a message: the checkpoint holds what
    it returned, and the words of a restart are those of the first run.

    Args:
        words: the command line.
        asked: the model that command line and configurations describe.
        kept: the model that the checkpoint describes, with the values that `changes` sets.

    Raises:
        ConfigurationError: names the option and what the checkpoint has instead.
    """
    for word in words:
        option = word.partition("=")[0]
        section, *path = option.split(".")
        if section != "--model" or _leads_to_value(kept, path):
            continue
        ours, theirs = asked, kept
        for depth, name in enumerate(path, 1):
            ours, theirs = _argument(ours, name), _argument(theirs, name)
            if isinstance(ours, Namespace) and not _is_class(ours):
                rank_zero_info(f"{option} is not read: the checkpoint of this run holds the part itself")
                break
            wanted, found = (part.get("class_path") if isinstance(part, Namespace) else part for part in (ours, theirs))
            if found != wanted or (depth == len(path) and ours != theirs):
                raise ConfigurationError(
                    f"{option} would have no effect: the checkpoint's model keeps its own part there ({found}). Leave "
                    "the option out, change single values of that part, or train a new model without --ckpt_path"
                )


def follow_length(asked: Any, kept: Any, max_steps: int) -> None:
    """Let the learning-rate schedule of a checkpoint's model end with the run where the configuration's does.

    Args:
        asked: the model that command line and configurations describe; its schedule refers to `trainer.max_steps`.
        kept: the model that the checkpoint describes, with the number of the earlier run; changed in place.
        max_steps: number of updates of this run.
    """
    ours, theirs = _argument(asked, "lr_scheduler"), _argument(kept, "lr_scheduler")
    if not (_is_class(ours) and _is_class(theirs) and ours.class_path == theirs.class_path):
        return
    for name, value in ours.init_args.items():
        if value == max_steps:
            theirs.init_args[name] = value


def _is_class(part: Any) -> bool:
    """Return whether a part of a configuration is built by a class, not a function or a plain value."""
    return isinstance(part, Namespace) and "class_path" in part and inspect.isclass(resolve_name(part.class_path))


def _argument(part: Any, name: str) -> Any:
    """Return an argument of a part of a configuration; None where there is none."""
    if isinstance(part, Namespace) and "init_args" in part and name != "init_args":
        part = part.init_args
    return part.get(name) if isinstance(part, Namespace) else None


def _leads_to_value(part: Any, path: Sequence[str]) -> bool:
    """Whether a part of a configuration has something at a path, which may leave `init_args` out, that is no part."""
    for name in path[:-1]:
        part = _argument(part, name)
    if isinstance(part, Namespace) and "init_args" in part:
        part = part.init_args
    return bool(path) and isinstance(part, Namespace) and path[-1] in part and not isinstance(part[path[-1]], Namespace)
