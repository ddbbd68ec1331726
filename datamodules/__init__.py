"""LightningDataModules for robot-learning data."""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Imported on first use, so that simulator workers and `difftori data` do not import Lightning.
    names = _public_names()
    if name == "__all__":
        return list(names)
    if name not in names:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(names[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_public_names()})


@cache
def _public_names() -> dict[str, str]:
    """Return public name -> module, read from the source text, so that one name does not import all modules."""
    tree = ast.parse(Path(__file__).with_name("public.py").read_text(encoding="utf-8"))
    imports = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    return {alias.name: str(node.module) for node in imports for alias in node.names}
