"""The recipe for ManiSkill3 tasks, with the observations of their demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.maniskill3_env import ManiSkill3Env

STATE_KEYS = ("agent/qpos", "extra/tcp_pose", "extra/goal_pos", "extra/obj_pose", "extra/is_grasped")
"""Observations of PickCube-v1 without velocities."""


class ManiSkill3(EnvFactory):
    """A ManiSkill3 task, simulated on the CPU (`physx_cpu`).

    Args:
        task: ManiSkill3's name of the task (`PickCube-v1`, `StackCube-v1`, `PushT-v1`, ...).
        control_mode: the controller, the same as in the data.
        obs_keys: vectors, the same keys as in the data; `[state]` observes ManiSkill3's flat vector.
        image_keys: RGB images, for instance `sensor_data/base_camera/rgb`.
        max_episode_steps: number of environment steps (20 per second) after which an episode is truncated.
        render_backend: `cpu` renders with any Vulkan driver, `gpu` with CUDA; `none` renders neither images nor videos.
    """

    def __init__(
        self,
        task: str = "PickCube-v1",
        control_mode: str = "pd_ee_delta_pos",
        obs_keys: Sequence[str] = STATE_KEYS,
        image_keys: Sequence[str] = (),
        max_episode_steps: int = 100,
        render_backend: str = "cpu",
    ) -> None:
        if max_episode_steps < 1:
            raise ConfigurationError(f"max_episode_steps must be at least 1, got {max_episode_steps}")
        self.task = task
        self.control_mode = control_mode
        self.obs_keys = tuple(obs_keys)
        self.image_keys = tuple(image_keys)
        self.max_episode_steps = max_episode_steps
        self.render_backend = render_backend

    @property
    def interface(self) -> dict[str, Any]:
        """Task and controller, compared with those of a policy's training data."""
        return {"env_id": self.task, "control_mode": self.control_mode}

    def __call__(self, seed: int = 0) -> ManiSkill3Env:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: ManiSkill3, Vulkan or the task's assets are not installed.
            ConfigurationError: ManiSkill3 has no such task or controller, or the task no such observation.
        """
        from difftori_pl.envs.maniskill3_env import ManiSkill3Env

        return ManiSkill3Env(
            self.task,
            self.control_mode,
            self.obs_keys,
            self.image_keys,
            self.max_episode_steps,
            self.render_backend,
            seed,
        )
