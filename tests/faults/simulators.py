"""A simulator that fails in some episodes. This module does not import torch, so its workers start quickly."""

import os
import time
from typing import Any

from tests.envs import Point, PointEnv


class FaultyPoint(Point):
    """A `Point` that fails at the third step: it exits if the seed ends in 1, hangs if in 2, and raises if in 3."""

    def __call__(self, seed: int = 0) -> "FaultyPointEnv":
        del seed
        return FaultyPointEnv(self)


class FaultyPointEnv(PointEnv):
    seed = 0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.seed = seed or 0
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        if self.n_steps == 2 and self.seed % 10 == 1:
            os._exit(3)
        if self.n_steps == 2 and self.seed % 10 == 2:
            time.sleep(600)
        if self.n_steps == 2 and self.seed % 10 == 3:
            raise ValueError("the arm fell off")
        return super().step(action)
