"""Meta-World's scripted experts, as a `Player` for the recorder."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.demos.episode import STEPS_AFTER_SUCCESS
from difftori_pl.demos.recorder import Played
from difftori_pl.envs.depth_cloud import DepthCloud
from difftori_pl.envs.metaworld import MetaWorld
from difftori_pl.envs.metaworld_env import MetaWorldEnv, find_task, import_metaworld

if TYPE_CHECKING:
    from numpy.typing import NDArray

_GYM = 2
"""robomimic's type number of gym environments."""


@dataclass(frozen=True)
class MetaWorldPlayer:
    """Meta-World's expert in its task, recorded with all observations; see `Player`.

    Actions are recorded after clipping to [-1, 1], as Meta-World executes them.

    Args:
        task: Meta-World's name of the task.
        cloud: settings of the point clouds; None disables them, and then nothing is rendered.
        max_steps: number of environment steps after which an episode counts as failed, as in evaluation.

    Raises:
        MissingPackageError: Meta-World is not installed.
        ConfigurationError: Meta-World has no such task.
    """

    task: str
    cloud: DepthCloud | None = DepthCloud()  # noqa: RUF009  (immutable)
    max_steps: int = 200

    def __post_init__(self) -> None:
        self._expert()

    @property
    def recipe(self) -> dict[str, Any]:
        """See `Player`."""
        return {"task": self.task, "max_steps": self.max_steps, **self._cloud_settings()}

    def play(self, seed: int) -> Played | None:
        """See `Player`."""
        env, expert = _env(self), self._expert()
        seen = [env.reset(seed=seed)[0]]
        actions: list[NDArray[np.float64]] = []
        rewards: list[float] = []
        dones: list[bool] = []
        while sum(dones) < STEPS_AFTER_SUCCESS:
            if len(actions) >= self.max_steps:
                return None
            with warnings.catch_warnings():
                # Experts command actions beyond 1 on purpose and warn about each.
                warnings.simplefilter("ignore")
                action = np.clip(expert.get_action(seen[-1]["state"].astype(np.float64)), -1.0, 1.0)
            obs, reward, success, _, _ = env.step(action)
            seen.append(obs)
            actions.append(action)
            rewards.append(reward)
            dones.append(success)
        series = {key: np.stack([obs[key] for obs in seen]) for key in seen[0]}
        arrays = {
            "actions": np.stack(actions).astype(np.float64),
            "rewards": np.array(rewards, dtype=np.float64),
            "dones": np.array(dones, dtype=np.int64),
            **{f"obs/{key}": values[:-1] for key, values in series.items()},
            **{f"next_obs/{key}": values[1:] for key, values in series.items()},
        }
        return Played(arrays, {"env_name": self.task, "type": _GYM, "env_kwargs": self._cloud_settings()}, {})

    def _cloud_settings(self) -> dict[str, Any]:
        return {"cloud": None if self.cloud is None else self.cloud.settings}

    def _expert(self) -> Any:
        return find_task(import_metaworld("metaworld.policies").ENV_POLICY_MAP, self.task)()


@cache
def _env(player: MetaWorldPlayer) -> MetaWorldEnv:
    """Build the environment, once per process."""
    if player.cloud is None:
        return MetaWorld(player.task, ["state", "agent_pos"])()
    return MetaWorld(player.task, ["state", "agent_pos", "point_cloud"], player.cloud)()
