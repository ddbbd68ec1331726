"""What every simulator gives: a recipe that builds `gymnasium` environments."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import ShapeError

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import ArrayLike, NDArray


class EnvFactory(ABC):
    """A recipe for one environment: cheap to build from YAML and to send to a worker process; the environment is not.

    Environments give float32 (or uint8 image) observations and take actions in [-1, 1]. They report `info["success"]`
    where the task defines success. The seed given to `reset` fixes the initial state of an episode.

    Attributes:
        task: name of the task; empty if it has none.
        action_repeat: environment steps for which an action is held.
    """

    task: str = ""
    action_repeat: int = 1

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


def checked_action(action: ArrayLike, shape: tuple[int, ...] | None, task: str) -> NDArray[np.float64]:
    """Give an action as numbers that a simulator can take.

    Raises:
        ShapeError: the action is not of this shape, that of the action space.
        ValueError: the action is not finite.
    """
    checked = np.asarray(action, dtype=np.float64)
    if checked.shape != shape:
        raise ShapeError(f"an action of {task} is {shape}, but {checked.shape} came")
    if not np.isfinite(checked).all():
        raise ValueError(f"an action must be finite, but {checked} came")
    return checked
