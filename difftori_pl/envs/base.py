"""What every simulator gives: a recipe that builds `gymnasium` environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import gymnasium


class EnvFactory(ABC):
    """A recipe for one environment: cheap to build from YAML and to send to a worker process; the environment is not.

    Environments give float32 (or uint8 image) observations, take actions in [-1, 1], report `info["success"]`, and
    start every episode from a state that is fixed by the seed given to `reset`.
    """

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean, for a policy to compare with what it was trained on; may stay open."""
        return {}

    @abstractmethod
    def __call__(self, seed: int = 0) -> gymnasium.Env[Any, Any]:
        """Build the environment.

        Args:
            seed: seeds the episodes of a `reset()` that is given no seed of its own.
        """
