"""A simulator that fails in some episodes; its process starts without torch."""

import os
import time
from typing import Any

from tests.envs import Point, PointEnv


class FaultyPoint(Point):
    """`Point`, whose episodes of seeds that end in 1 kill the process, in 2 hang, and in 3 raise, at the third step."""

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
