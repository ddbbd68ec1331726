"""LightningDataModules for robot-learning data."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datamodules.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Imported on first use: a simulator's worker process needs one recipe from here and must not wait for Lightning.
    public = import_module("datamodules.public")
    if name == "__all__" or name in public.__all__:
        return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("datamodules.public").__all__})
