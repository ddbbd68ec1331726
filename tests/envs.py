"""A test environment without a simulator: push a point to the origin."""

from typing import Any

import gymnasium
import numpy as np

from difftori_pl.envs import EnvFactory


class Point(EnvFactory):
    """Recipe of `PointEnv`; an episode has `n_steps + seed % spread` steps."""

    def __init__(
        self, task: str = "point", n_steps: int = 12, action_repeat: int = 2, pixels: bool = False, spread: int = 1
    ) -> None:
        self.task = task
        self.n_steps = n_steps
        self.spread = spread
        self.action_repeat = action_repeat
        self.pixels = pixels

    def __call__(self, seed: int = 0) -> "PointEnv":
        del seed
        return PointEnv(self)


class TurnedCameras(Point):
    """Recipe of an environment whose `interface` reports another order of the cameras."""

    def __call__(self, seed: int = 0) -> "PointEnv":
        env = super().__call__(seed)
        env.interface = {"cameras": ["hand_camera", "base_camera"]}
        return env


class PointEnv(gymnasium.Env[dict[str, Any], Any]):
    """A point with position and velocity in one dimension; the reward exp(-|position|) is largest at the origin."""

    def __init__(self, recipe: Point) -> None:
        self.recipe = recipe
        self.interface: dict[str, Any] = {}
        self.state = np.zeros(2, dtype=np.float32)
        self.n_steps = 0
        self.length = recipe.n_steps

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1, 1, 2).astype(np.float32)
        self.n_steps = 0
        self.length = self.recipe.n_steps + (seed or 0) % self.recipe.spread
        return self.observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.state = self.state + 0.1 * np.array([self.state[1], action[0]], dtype=np.float32)
        self.n_steps += 1
        return self.observe(), float(np.exp(-abs(self.state[0]))), False, self.n_steps >= self.length, {}

    def observe(self) -> dict[str, Any]:
        if not self.recipe.pixels:
            return {"state": self.state.copy()}
        return {"pixels": np.full((9, 84, 84), self.n_steps, dtype=np.uint8)}

    def render(self) -> Any:
        return np.zeros((32, 32, 3), dtype=np.uint8)


class Ledge(Point):
    """Recipe of `LedgeEnv`."""

    def __call__(self, seed: int = 0) -> "PointEnv":
        del seed
        return LedgeEnv(self)


class LedgeEnv(PointEnv):
    """A point that moves by 0.3 times the action; the reward is 1, and the task ends beyond 0.5."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self.state = np.array([self.np_random.uniform(-0.5, 0.3), 0.0], dtype=np.float32)
        return self.observe(), {}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        self.state = self.state + 0.3 * np.array([np.clip(action[0], -1, 1), 0.0], dtype=np.float32)
        self.n_steps += 1
        return self.observe(), 1.0, bool(self.state[0] > 0.5), self.n_steps >= self.length, {}
