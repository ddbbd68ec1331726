"""The recipe for robosuite tasks with the settings of robomimic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datamodules.actions.robosuite_control import KEY as CONTROL_DELTA
from datamodules.actions.robosuite_control import control_delta, with_control_delta
from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.robosuite_import import robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import check_recorded, installed_interface
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from difftori_pl.envs.robosuite_env import RobosuiteEnv

LOW_DIM_KEYS = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos", "object")
"""Observations of robomimic's low-dimensional policies in a task with one arm."""

IMAGE_KEYS = ("agentview_image", "robot0_eye_in_hand_image")
"""Images observed by robomimic's image policies in a task with one arm, in addition to the robot's own state."""


class Robosuite(EnvFactory):
    """A robosuite task with robomimic's controller, observation names and image orientation.

    It runs with robosuite 1.4 and with 1.5, which has the same controller but orders `object` differently.

    Args:
        task: robosuite's name of the task (`NutAssemblySquare`, `Lift`, `ToolHang`, `TwoArmTransport`, ...).
        obs_keys: low-dimensional observations, robomimic's names; `object` is robosuite's `object-state`.
        image_keys: camera observations, robomimic's names `<camera>_image`; empty to disable rendering.
        image_size: height and width of the camera observations, in pixels.
        max_episode_steps: number of environment steps (20 per second) after which an episode is truncated.
        robots: robosuite's names of the arms.
        shadows: render shadows, as in the published image datasets; no light in NutAssemblySquare casts shadows.
        multisampling: antialias edges, as in the published image datasets; doubles the time of software rendering.
        reflections: render reflections, as in the published image datasets; doubles the time of software rendering.
        env_kwargs: further arguments of the robosuite task, as in the `env_args` of a robomimic file.
        control_delta: whether actions are displacements, robomimic's default, or absolute poses (False): of each arm a
            position in metres, an axis-angle vector in radians, and the gripper's command; None follows `env_kwargs`.
    """

    def __init__(
        self,
        task: str = "NutAssemblySquare",
        obs_keys: Sequence[str] = LOW_DIM_KEYS,
        image_keys: Sequence[str] = (),
        image_size: int = 84,
        max_episode_steps: int = 400,
        robots: Sequence[str] = ("Panda",),
        shadows: bool = True,
        multisampling: bool = True,
        reflections: bool = True,
        env_kwargs: dict[str, object] | None = None,
        control_delta: bool | None = None,
    ) -> None:
        wrong = [key for key in image_keys if not key.endswith("_image")]
        if wrong:
            raise ConfigurationError(
                f"image_keys must be named <camera>_image, got {wrong}; other keys belong in obs_keys"
            )
        if image_size < 1 or max_episode_steps < 1:
            raise ConfigurationError(
                f"image_size and max_episode_steps must be at least 1, got {image_size} and {max_episode_steps}"
            )
        self.task = task
        self.obs_keys = tuple(obs_keys)
        self.image_keys = tuple(image_keys)
        self.image_size = image_size
        self.max_episode_steps = max_episode_steps
        self.robots = tuple(robots)
        self.shadows = shadows
        self.multisampling = multisampling
        self.reflections = reflections
        self.env_kwargs = dict(env_kwargs or {})
        self.control_delta = control_delta

    @property
    def interface(self) -> dict[str, Any]:
        """The generation of the installed robosuite, and whether actions are displacements, if `env_kwargs` say so."""
        delta = control_delta(self._all_kwargs())
        return installed_interface() | ({} if delta is None else {CONTROL_DELTA: delta})

    def _all_kwargs(self) -> dict[str, Any]:
        """Return the arguments of the robosuite task."""
        kwargs = robomimic_env_kwargs(self.robots) | self.env_kwargs
        return kwargs if self.control_delta is None else with_control_delta(kwargs, self.control_delta)

    @classmethod
    def from_env_args(
        cls,
        env_args: Mapping[str, Any],
        obs_keys: Sequence[str] = LOW_DIM_KEYS,
        image_keys: Sequence[str] = (),
        image_size: int = 84,
        max_episode_steps: int = 400,
        shadows: bool = True,
        multisampling: bool = True,
        reflections: bool = True,
    ) -> Robosuite:
        """Build the recipe for the environment in which a robomimic file was recorded.

        Args:
            env_args: the JSON object in the file's attribute `env_args`.
            obs_keys: low-dimensional observations, robomimic's names.
            image_keys: camera observations, robomimic's names `<camera>_image`.
            image_size: height and width of the camera observations, in pixels.
            max_episode_steps: number of environment steps after which an episode is truncated.
            shadows: render shadows.
            multisampling: antialias edges.
            reflections: render reflections.

        Raises:
            ConfigurationError: `env_args` does not describe a robosuite task, or is of a later generation of robosuite
                than the installed one.
        """
        kwargs = env_args.get("env_kwargs")
        if "env_name" not in env_args or not isinstance(kwargs, dict):
            raise ConfigurationError(
                f"env_args must have env_name and env_kwargs, got {sorted(env_args)}: is the file from robosuite?"
            )
        check_recorded(env_args)
        robots = kwargs.get("robots", "Panda")
        robots = (robots,) if isinstance(robots, str) else tuple(robots)
        return cls(
            str(env_args["env_name"]),
            obs_keys,
            image_keys,
            image_size,
            max_episode_steps,
            robots,
            shadows,
            multisampling,
            reflections,
            kwargs,
        )

    def __call__(self, seed: int = 0) -> RobosuiteEnv:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: robosuite, or a system library for rendering, is not installed.
            ConfigurationError: robosuite has no such task, observation or camera.
        """
        from difftori_pl.envs.robosuite_env import RobosuiteEnv

        return RobosuiteEnv(
            self.task,
            self.obs_keys,
            self.image_keys,
            self.image_size,
            self.max_episode_steps,
            self._all_kwargs(),
            self.robots,
            self.shadows,
            self.multisampling,
            self.reflections,
            seed,
        )
