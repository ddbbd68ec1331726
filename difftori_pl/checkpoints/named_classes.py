"""Check the classes that a configuration from somebody else names, before any of them is imported."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Sequence
from pkgutil import resolve_name
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from difftori_pl.errors import CheckpointError

_STRUCTURE = re.compile(r"[{}\[\]:\n\r]")
"""Characters of YAML that is not a plain value: the parser would read a part from such a text."""

_FUNCTIONS = {"difftori_pl.frozen_critic"}
"""Functions of this package that build a part without reading a file."""


def foreign_classes(config: Any) -> list[str]:
    """Return the import paths in a configuration that name no class of this package and no optimiser of torch.

    Every text that could be an import path counts as one, because the parser also accepts a class without the key
    `class_path`. Nothing outside this package and torch is imported.

    Args:
        config: plain values: None, bool, int, float, str, list, and dict with text keys.

    Raises:
        CheckpointError: the configuration holds other values, or a text that the parser would read as a configuration.
    """
    return sorted({text for text in _texts(config) if _could_be_import_path(text) and not _is_ours(text)})


def check_classes(config: Any, allow: Sequence[str], origin: str) -> None:
    """Refuse a configuration that names a class of another package, unless `allow` lists its import path.

    Args:
        config: see `foreign_classes`.
        allow: import paths that the caller trusts.
        origin: name of the folder in error messages.

    Raises:
        CheckpointError: see above; the message names the classes.
    """
    try:
        foreign = [name for name in foreign_classes(config) if name not in allow]
    except CheckpointError as error:
        raise CheckpointError(f"{origin}: {error}") from error
    if foreign:
        names = ", ".join(repr(name) for name in [*allow, *foreign])
        raise CheckpointError(
            f"expected only classes of difftori_pl in {origin}, got {', '.join(foreign)}: if you trust this code, "
            f"install it and call load_policy(..., allow=[{names}])"
        )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():  # the keys are names of arguments and observations
            yield from _texts(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        if _STRUCTURE.search(value):
            raise CheckpointError(
                f"expected names and numbers in the configuration, got the text {value[:60]!r}: train with a part that "
                "needs no such text, or exchange the .ckpt file"
            )
        yield value
    elif value is not None and not isinstance(value, (bool, int, float)):
        raise CheckpointError(
            f"expected plain values in the configuration, got a {type(value).__name__}: exchange the .ckpt file"
        )


def _could_be_import_path(text: str) -> bool:
    return "." in text and all(word.isidentifier() for word in text.split("."))


def _is_ours(path: str) -> bool:
    """Return whether a path names a class of this package, or an optimiser or scheduler of torch."""
    if path in _FUNCTIONS:
        return True
    package = next((name for name in ("difftori_pl", "torch.optim") if path.startswith(f"{name}.")), None)
    if package is None or any(word.startswith("_") for word in path.split(".")):
        return False
    try:
        found = resolve_name(path)
    except (ImportError, AttributeError):
        return False
    # A path through this package can lead to another one: difftori_pl.module.torch.
    if not inspect.isclass(found) or not f"{found.__module__}.".startswith(f"{package}."):
        return False
    return package == "difftori_pl" or issubclass(found, (Optimizer, LRScheduler))
