"""Differentiable trajectory optimisation as a policy class, on PyTorch Lightning."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from difftori_pl.public import *  # noqa: F403


def __getattr__(name: str) -> Any:
    # Imported lazily, so that `import difftori_pl.trajopt` does not import Lightning.
    public = import_module("difftori_pl.public")
    if name == "__all__" or name in public.__all__:
        return getattr(public, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *import_module("difftori_pl.public").__all__})
