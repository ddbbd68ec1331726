"""The recipe for ManiSkill2 tasks, with the observations of their demonstrations."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.maniskill_env import ManiSkillEnv


class ManiSkill(EnvFactory):
    """A ManiSkill2 task.

    Args:
        task: ManiSkill2's name of the task (`PickCube-v0`, `LiftCube-v0`, `OpenCabinetDrawer-v1`, ...).
        control_mode: the controller, the same as in the data.
        cloud: how point clouds are processed, the same as in the data; None observes the state vector.
        max_episode_steps: number of environment steps (20 per second) after which an episode is truncated.
        shader: shader that colours the points: `ibl`, ManiSkill2's default, or `trivial`, which is faster in software
            and does not change the positions.
    """

    def __init__(
        self,
        task: str = "PickCube-v0",
        control_mode: str = "pd_ee_delta_pose",
        cloud: PointCloudRecipe | None = None,
        max_episode_steps: int = 200,
        shader: str = "ibl",
    ) -> None:
        if max_episode_steps < 1:
            raise ConfigurationError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        self.task = task
        self.control_mode = control_mode
        self.cloud = cloud
        self.max_episode_steps = max_episode_steps
        self.shader = shader

    @property
    def interface(self) -> dict[str, Any]:
        """Description of the observations and actions, compared with that of a policy's training data."""
        known: dict[str, Any] = {"env_id": self.task, "control_mode": self.control_mode}
        return known | (
            {"observation": "point_cloud", **asdict(self.cloud)} if self.cloud else {"observation": "state"}
        )

    def __call__(self, seed: int = 0) -> ManiSkillEnv:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: ManiSkill2, Vulkan, CUDA or the task's assets are not installed.
            ConfigurationError: ManiSkill2 has no such task or controller.
        """
        from difftori_pl.envs.maniskill_env import ManiSkillEnv

        return ManiSkillEnv(self.task, self.control_mode, self.cloud, self.max_episode_steps, self.shader, seed)
