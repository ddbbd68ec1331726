"""The recipe for Meta-World tasks, with the observations of their demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.depth_cloud import DepthCloud
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.metaworld_env import MetaWorldEnv

OBS_KEYS = ("state", "agent_pos", "point_cloud")

_MAX_STEPS = 500
"""Meta-World raises an error when an episode continues after this step."""


class MetaWorld(EnvFactory):
    """A task of Meta-World, version 3, with the goal included in the observation.

    An action (4,) is the displacement of the hand, x, y and z in centimetres, and the gripper command. Positions are in
    metres in the world frame. An episode succeeds if the task is solved at any step, as in DP3 and the authors' code,
    and terminates at that step. Observations:

    - `state` (39,): Meta-World's own observation: hand position, gripper opening and object poses of the current and
      the previous step, and the goal position;
    - `agent_pos` (9,): positions of the hand and of the right and left fingertips, as in DP3;
    - `point_cloud` (N, 3): see `DepthCloud`. Nothing is rendered if it is not observed.

    Args:
        task: Meta-World's name of the task (`reach-v3`, `peg-insert-side-v3`, ...).
        obs_keys: observations, among `state`, `agent_pos`, `point_cloud`.
        cloud: settings of the point cloud.
        max_episode_steps: number of environment steps (80 per second) after which an episode is truncated, at most
            500; 200 in DP3.
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
            raise ConfigurationError(f"obs_keys must be among {', '.join(OBS_KEYS)}, got {list(obs_keys)}")
        if not 1 <= max_episode_steps <= _MAX_STEPS:
            raise ConfigurationError(f"max_episode_steps must be 1 to {_MAX_STEPS}, got {max_episode_steps}")
        self.task = task
        self.obs_keys = tuple(obs_keys)
        self.cloud = cloud
        self.max_episode_steps = max_episode_steps

    @property
    def interface(self) -> dict[str, Any]:
        """Description of the observations and actions, compared with that of a policy's training data."""
        return {"env_id": self.task} | (self.cloud.settings if "point_cloud" in self.obs_keys else {})

    def __call__(self, seed: int = 0) -> MetaWorldEnv:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: Meta-World, or a system library for rendering, is not installed.
            ConfigurationError: Meta-World has no such task.
        """
        from difftori_pl.envs.metaworld_env import MetaWorldEnv

        return MetaWorldEnv(self.task, self.obs_keys, self.cloud, self.max_episode_steps, seed)
