"""Differences between robosuite 1.4 and 1.5 that concern the environment."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from datamodules.actions.robosuite_version import COMPOSITE, FIRST, KEY, generation, is_composite, recorded_generation
from difftori_pl.envs.robosuite_import import import_robosuite
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TRANSLATED = ("OSC_POSE", "JOINT_POSITION", "JOINT_TORQUE")
"""Controllers with the same meaning in both releases. OSC_POSITION holds the hand downwards in 1.4 and its current
orientation in 1.5; JOINT_VELOCITY does not work in 1.5.2; IK_POSE has other settings."""

_TWO_ARMS = "Baxter"
"""The only robot of 1.4 with two arms."""

_CONFIGURATIONS = {
    "single-arm-opposed": "opposed",
    "single-arm-parallel": "parallel",
    "bimanual": "single-robot",
}
"""Names of `env_configuration` in 1.4 and in 1.5."""


class Release(ABC):
    """The installed release of robosuite.

    Args:
        version: version of the installed package.
    """

    def __init__(self, version: str) -> None:
        self.version = version

    @property
    def interface(self) -> dict[str, Any]:
        """The generation, as an entry of `EnvFactory.interface`."""
        return {KEY: generation(self.version)}

    @abstractmethod
    def env_kwargs(self, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Convert arguments of a task to those of this release; its own arguments are returned unchanged.

        Args:
            env_kwargs: arguments of the task, as in the `env_args` of a robomimic file.

        Raises:
            ConfigurationError: the arguments have no equivalent in this release.
        """

    @abstractmethod
    def seed(self, task: Any, seed: int) -> None:
        """Seed the task's own generator, if there is one.

        Args:
            task: the robosuite task.
            seed: seed of the next episode.
        """

    @abstractmethod
    def arms(self, robot: Any) -> list[tuple[slice, Any]]:
        """Return for each arm its part of the robot's action, without the gripper's, and its controller.

        Args:
            robot: one of the task's robots.
        """

    @abstractmethod
    def observe(self, task: Any) -> dict[str, NDArray[np.float64]]:
        """Read all of robosuite's sensors in the current state.

        Args:
            task: the robosuite task.
        """


class Release14(Release):
    """robosuite 1.4 and earlier: one controller per arm, and numpy's global generator."""

    def env_kwargs(self, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Release.env_kwargs`."""
        if any(is_composite(controller) for controller in _controllers(env_kwargs)):
            raise ConfigurationError(
                f"controller_configs has body_parts, a composite controller of robosuite 1.5, but {self.version} is "
                f"installed: {how_to_install(COMPOSITE)}"
            )
        return dict(env_kwargs)

    def seed(self, task: Any, seed: int) -> None:
        """See `Release.seed`: robosuite uses numpy's global generator."""

    def arms(self, robot: Any) -> list[tuple[slice, Any]]:
        """See `Release.arms`."""
        return [(slice(0, robot.controller.control_dim), robot.controller)]

    def observe(self, task: Any) -> dict[str, NDArray[np.float64]]:
        """See `Release.observe`."""
        return task._get_observations(force_update=True)


class Release15(Release):
    """robosuite 1.5: composite controllers, and a generator per task."""

    def env_kwargs(self, env_kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """See `Release.env_kwargs`.

        The controllers that are converted reach the poses of 1.4. The gripper of 1.5 is a fifth slower with either kind
        of settings.
        """
        old = [controller for controller in _controllers(env_kwargs) if not is_composite(controller)]
        # Without the viewer, which robosuite would otherwise create. 1.4 always computed dynamics twice per step.
        converted: dict[str, Any] = {"renderer": "mujoco", "lite_physics": not old, **env_kwargs}
        if old:
            robots = env_kwargs.get("robots", ())
            if _TWO_ARMS in ((robots,) if isinstance(robots, str) else robots):
                raise ConfigurationError(
                    f"controller_configs of robosuite 1.4 for {_TWO_ARMS}, which has two arms, have no equivalent in "
                    f"{self.version}: write them with body_parts, or {how_to_install(FIRST)}"
                )
            converted["controller_configs"] = _each(env_kwargs["controller_configs"], _composite)
        if env_kwargs.get("env_configuration") in _CONFIGURATIONS:
            converted["env_configuration"] = _CONFIGURATIONS[env_kwargs["env_configuration"]]
        if "mount_types" in env_kwargs:
            converted["base_types"] = converted.pop("mount_types")
        return converted

    def seed(self, task: Any, seed: int) -> None:
        """See `Release.seed`."""
        # The placement samplers hold the same generator, so its state is replaced, not the object.
        task.rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state

    def arms(self, robot: Any) -> list[tuple[slice, Any]]:
        """See `Release.arms`."""
        composite = robot.composite_controller
        composite.update_state()  # poses in the frame of the base are relative to its current pose
        parts = composite.get_action_info_dict()
        return [(slice(*parts[arm]), composite.get_controller(arm)) for arm in composite.arms]

    def observe(self, task: Any) -> dict[str, NDArray[np.float64]]:
        """See `Release.observe`.

        robosuite 1.5.2 computes poses relative to the hand before it reads the object's pose, so that they use the
        object's pose at the last reading. After the second reading all values belong to the current state.
        """
        task._get_observations(force_update=True)
        return task._get_observations(force_update=True)


def find_release() -> Release:
    """Return the installed release of robosuite.

    Raises:
        MissingPackageError: robosuite is not installed.
    """
    installed: str = import_robosuite().__version__
    return (Release14 if generation(installed) == FIRST else Release15)(installed)


def installed_interface() -> dict[str, Any]:
    """Return the generation of the installed robosuite without importing it; empty if it is unknown."""
    try:
        return {KEY: generation(version("robosuite"))}
    except (PackageNotFoundError, ValueError):
        return {}


def check_recorded(env_args: Mapping[str, Any]) -> None:
    """Refuse the environment of a file that was recorded with a later generation than the installed one.

    Args:
        env_args: the JSON object in the file's attribute `env_args`.

    Raises:
        ConfigurationError: the file was recorded with a later generation.
    """
    recorded, installed = recorded_generation(env_args), installed_interface().get(KEY)
    if recorded and installed and _numbers(recorded) > _numbers(installed):
        raise ConfigurationError(
            f"the file was recorded with robosuite {env_args.get('env_version', recorded)}, but "
            f"{version('robosuite')} is installed: {how_to_install(recorded)}"
        )


def _controllers(env_kwargs: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the settings of each robot's controller."""
    settings = env_kwargs.get("controller_configs")
    found = settings if isinstance(settings, list | tuple) else [settings]
    return [controller for controller in found if isinstance(controller, Mapping)]


def _each(settings: Any, convert: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Any:
    if isinstance(settings, list | tuple):
        return [convert(controller) for controller in settings]
    return convert(settings)


def _composite(controller: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the settings of one arm's controller in 1.4 to a composite controller with the same meaning."""
    if is_composite(controller):
        return dict(controller)
    kind = controller.get("type")
    if kind not in _TRANSLATED:
        raise ConfigurationError(
            f"the controller {kind} of robosuite 1.4 has no equivalent in 1.5, which has one for "
            f"{', '.join(_TRANSLATED)}: {how_to_install(FIRST)}"
        )
    limits = ("interpolation", "position_limits", "orientation_limits")
    unsupported = [name for name in limits if controller.get(name) is not None]
    if unsupported:
        raise ConfigurationError(
            f"{unsupported[0]} of the controller {kind} has no equivalent in robosuite 1.5, got "
            f"{controller[unsupported[0]]!r}: {how_to_install(FIRST)}"
        )
    # 1.4 ignores `damping` and `damping_limits`, which robomimic's files contain, and so does 1.5.
    part = {name: value for name, value in controller.items() if name != "control_delta"}
    if kind == "OSC_POSE":
        part["input_type"] = "delta" if controller.get("control_delta", True) else "absolute"
        # 1.4 has no other frame; by default 1.5 uses the frame of the robot's base.
        part["input_ref_frame"] = "world"
    return {"type": "BASIC", "body_parts": {"right": {**part, "gripper": {"type": "GRIP"}}}}


def _numbers(generation: str) -> tuple[int, ...]:
    return tuple(int(number) for number in generation.split("."))


def how_to_install(generation: str) -> str:
    """Return the advice to use another generation of robosuite."""
    return f"use an environment with difftori-pl[robosuite{generation.replace('.', '')}]"
