"""What the environments around simulators share: how an episode starts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

Obs = dict[str, Any]


class SeededEnv(gymnasium.Env[Obs, NDArray[np.float32]], ABC):
    """An environment whose episodes follow from their seeds.

    Args:
        seed: seeds the episodes of a `reset()` that is given no seed of its own.
    """

    render_mode = "rgb_array"

    def __init__(self, seed: int) -> None:
        self._np_random = np.random.default_rng(seed)

    @abstractmethod
    def _start(self, seed: int) -> Obs:
        """Bring the simulator into the initial state of this seed, the same in any process, and observe it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Obs, dict[str, Any]]:
        """Start an episode; the same seed gives the same initial state in any process.

        Args:
            seed: 0 to 2**32 - 1; without it, the next one of the environment's own generator.
            options: not used.

        Returns:
            the observation, and `{"success": False, "seed": int}`.
        """
        super().reset(seed=seed)
        episode_seed = int(self.np_random.integers(2**31)) if seed is None else seed
        return self._start(episode_seed), {"success": False, "seed": episode_seed}
