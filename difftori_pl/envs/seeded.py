"""Base class of the environments, which starts episodes from seeds."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Obs = dict[str, Any]


class SeededEnv(gymnasium.Env[Obs, NDArray[np.float32]], ABC):
    """An environment in which the seed fixes the initial state of an episode.

    Args:
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
    """

    render_mode = "rgb_array"

    def __init__(self, seed: int) -> None:
        self._np_random = np.random.default_rng(seed)

    @abstractmethod
    def _start(self, seed: int) -> Obs:
        """Set the simulator to the initial state of this seed, the same in every process, and observe it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start an episode; a seed gives the same initial state in every process.

        Args:
            seed: 0 to 2**32 - 1; if None, the environment's own generator draws one.
            options: ignored.

        Returns:
            the observation, and `{"success": False, "seed": int}`.
        """
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._start(episode_seed), {"success": False, "seed": episode_seed}
