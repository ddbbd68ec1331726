"""Base class of the recipes that build `gymnasium` environments, one per simulator."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import ShapeError

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import ArrayLike, NDArray


class EnvFactory(ABC):
    """Recipe for one environment.

    A recipe is cheap to build from YAML and to send to a worker process; the environment itself is not.

    Environments return float32 observations (images: uint8) and accept actions in their `action_space`: [-1, 1], or
    the units of demonstrations that are trained on with `action_scaling`. They report `info["success"]` if the task
    defines success. The seed passed to `reset` fixes the initial state of an episode.

    Attributes:
        task: name of the task; empty if it has none.
        action_repeat: environment steps for which an action is held.
    """

    task: str = ""
    action_repeat: int = 1

    @property
    def interface(self) -> dict[str, Any]:
        """Description of the observations and actions, compared with that of a policy's training data; may be empty."""
        return {}

    @abstractmethod
    def __call__(self, seed: int = 0) -> gymnasium.Env[Any, Any]:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.
        """


def checked_action(action: ArrayLike, shape: tuple[int, ...] | None, task: str) -> NDArray[np.float64]:
    """Convert an action to float64 and check its shape and values.

    Raises:
        ShapeError: the action does not have the shape of the action space, `shape`.
        ValueError: the action is not finite.
    """
    checked = np.asarray(action, dtype=np.float64)
    if checked.shape != shape:
        raise ShapeError(f"{task} expects an action of shape {shape}, got {checked.shape}")
    if not np.isfinite(checked).all():
        raise ValueError(f"an action must be finite, got {checked}")
    return checked
