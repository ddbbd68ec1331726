"""ManiSkill2 tasks, observed as their demonstrations are: the recipe to name in a configuration."""

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
        control_mode: the controller; the data must be of the same.
        cloud: how point clouds become observations, the same as in the data; None observes the state vector.
        max_episode_steps: the horizon at which an episode is truncated, in environment steps (20 a second).
        shader: what colours the cameras' points: `ibl`, as ManiSkill2's own, or `trivial`, which is faster in software
            and leaves the positions as they are.
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
            raise ConfigurationError(f"max_episode_steps is at least 1, but {max_episode_steps} came")
        self.task = task
        self.control_mode = control_mode
        self.cloud = cloud
        self.max_episode_steps = max_episode_steps
        self.shader = shader

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean, for a policy to compare with what it was trained on."""
        known: dict[str, Any] = {"env_id": self.task, "control_mode": self.control_mode}
        return known | (
            {"observation": "point_cloud", **asdict(self.cloud)} if self.cloud else {"observation": "state"}
        )

    def __call__(self, seed: int = 0) -> ManiSkillEnv:
        """Build the environment.

        Args:
            seed: seeds the episodes of a `reset()` that is given no seed of its own.

        Raises:
            MissingPackageError: ManiSkill2, Vulkan, CUDA or the task's assets are not installed.
            ConfigurationError: ManiSkill2 has no such task or controller.
        """
        from difftori_pl.envs.maniskill_env import ManiSkillEnv

        return ManiSkillEnv(self.task, self.control_mode, self.cloud, self.max_episode_steps, self.shader, seed)
