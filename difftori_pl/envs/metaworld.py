"""Meta-World's tasks, observed as their demonstrations are: the recipe to name in a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.depth_cloud import DepthCloud
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.metaworld_env import MetaWorldEnv

OBS_KEYS = ("state", "agent_pos", "point_cloud")

_LONGEST = 500
"""Meta-World refuses to step on after it."""


class MetaWorld(EnvFactory):
    """A task of Meta-World, version 3, with the goal in view.

    The action is how to move the hand, x, y and z in centimetres, and how to close the fingers; positions are in metres
    of the world. An episode succeeds if its task is solved at any step of it, as in DP3 and the authors' code, and ends
    there. What can be observed:

    - `state` (39,): Meta-World's own observation: hand, opening of the fingers and objects, now and a step before, and
      the goal;
    - `agent_pos` (9,): hand, right and left fingertip, as in DP3;
    - `point_cloud` (N, 3): see `DepthCloud`. Without it nothing is rendered.

    Args:
        task: Meta-World's name of the task (`reach-v3`, `peg-insert-side-v3`, ...).
        obs_keys: what to observe.
        cloud: how the point cloud is made.
        max_episode_steps: the horizon at which an episode is truncated, in environment steps (80 a second), 500 at
            most; 200 in DP3.
    """

    def __init__(
        self,
        task: str = "reach-v3",
        obs_keys: Sequence[str] = ("agent_pos", "point_cloud"),
        cloud: DepthCloud = DepthCloud(),  # noqa: B008  (immutable)
        max_episode_steps: int = 200,
    ) -> None:
        unknown = [key for key in obs_keys if key not in OBS_KEYS]
        if unknown or not obs_keys:
            raise ConfigurationError(f"obs_keys are among {', '.join(OBS_KEYS)}, but {list(obs_keys)} came")
        if not 1 <= max_episode_steps <= _LONGEST:
            raise ConfigurationError(f"max_episode_steps is 1 to {_LONGEST}, but {max_episode_steps} came")
        self.task = task
        self.obs_keys = tuple(obs_keys)
        self.cloud = cloud
        self.max_episode_steps = max_episode_steps

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean, for a policy to compare with what it was trained on."""
        return {"env_id": self.task} | (self.cloud.settings if "point_cloud" in self.obs_keys else {})

    def __call__(self, seed: int = 0) -> MetaWorldEnv:
        """Build the environment.

        Args:
            seed: seeds the episodes of a `reset()` that is given no seed of its own.

        Raises:
            MissingPackageError: Meta-World, or a system library for rendering, is not installed.
            ConfigurationError: Meta-World has no such task.
        """
        from difftori_pl.envs.metaworld_env import MetaWorldEnv

        return MetaWorldEnv(self.task, self.obs_keys, self.cloud, self.max_episode_steps, seed)
