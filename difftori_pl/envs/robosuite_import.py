"""Import of robosuite without its start-up warnings and without OpenGL, and robomimic's controller settings."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from difftori_pl.envs.rendering import choose_gl, missing_library
from difftori_pl.errors import ConfigurationError, MissingPackageError

if TYPE_CHECKING:
    from collections.abc import Iterator

CONTROL_FREQ = 20
"""Environment steps per second of simulated time in all robomimic data."""

OSC_POSE: dict[str, Any] = {
    "type": "OSC_POSE",
    "input_max": 1,
    "input_min": -1,
    "output_max": [0.05, 0.05, 0.05, 0.5, 0.5, 0.5],
    "output_min": [-0.05, -0.05, -0.05, -0.5, -0.5, -0.5],
    "kp": 150,
    "damping": 1,
    "impedance_mode": "fixed",
    "kp_limits": [0, 300],
    "damping_limits": [0, 10],
    "position_limits": None,
    "orientation_limits": None,
    "uncouple_pos_ori": True,
    "control_delta": True,
    "interpolation": None,
    "ramp_ratio": 0.2,
}
"""`controller_configs` of robomimic's files for robosuite 1.4: an action of 1 is 0.05 m or 0.5 rad."""

NO_RENDERING: dict[str, Any] = {"has_renderer": False, "has_offscreen_renderer": False, "use_camera_obs": False}
"""The `env_kwargs` with which robosuite creates no OpenGL context."""

_PRIVATE_MACROS = "robosuite.macros_private"


def robomimic_env_kwargs(robots: tuple[str, ...]) -> dict[str, Any]:
    """Return the `env_kwargs` with which robomimic builds a task of robosuite 1.4, without its cameras.

    Args:
        robots: robosuite's names of the arms.
    """
    return {
        **NO_RENDERING,
        "ignore_done": True,
        "use_object_obs": True,
        "control_freq": CONTROL_FREQ,
        "controller_configs": OSC_POSE if len(robots) == 1 else [OSC_POSE] * len(robots),
        "robots": list(robots),
        "camera_depths": False,
        "camera_heights": 84,
        "camera_widths": 84,
        "reward_shaping": False,
    }


def import_robosuite() -> ModuleType:
    """Import robosuite without its warnings; this also works on machines without OpenGL.

    Raises:
        MissingPackageError: robosuite, or the OpenGL library named by MUJOCO_GL, is not installed.
    """
    if "robosuite" in sys.modules:
        return sys.modules["robosuite"]
    spec = importlib.util.find_spec("robosuite")
    if spec is None or spec.origin is None:
        raise MissingPackageError("robosuite is not installed: pip install 'difftori-pl[robosuite14]' or [robosuite15]")
    try:
        with _own_macros(Path(spec.origin).parent):
            return importlib.import_module("robosuite")
    except (ImportError, AttributeError, RuntimeError, OSError) as error:
        if "MUJOCO_GL" not in os.environ:
            raise
        # robosuite loads the library named by MUJOCO_GL even if nothing is rendered.
        choose_gl()
        raise missing_library(error) from error


def make_task(task: str, env_kwargs: dict[str, Any]) -> Any:
    """Build a robosuite task.

    Args:
        task: robosuite's name of the task.
        env_kwargs: arguments of the task's class.

    Raises:
        MissingPackageError: robosuite is not installed.
        ConfigurationError: robosuite has no such task, or the task rejects the arguments.
    """
    robosuite = import_robosuite()
    if task not in robosuite.ALL_ENVIRONMENTS:
        raise ConfigurationError(
            f"robosuite has no task {task!r}; it has {', '.join(sorted(robosuite.ALL_ENVIRONMENTS))}"
        )
    try:
        return robosuite.make(task, **env_kwargs)
    except (TypeError, AssertionError, KeyError) as error:
        raise ConfigurationError(f"robosuite cannot build {task} with {sorted(env_kwargs)}: {error}") from error


@contextmanager
def _own_macros(package: Path) -> Iterator[None]:
    """Provide robosuite's private macros during its import, unless the user has defined them.

    Without private macros robosuite warns on every start, and 1.5 also about optional packages that nothing here uses.
    Its default also overrides MUJOCO_GL with EGL, so the import fails if EGL is not installed, even if nothing is
    rendered. `OffscreenRenderer` renders instead, so robosuite needs no OpenGL.
    """
    if not (package / "macros_private.py").exists():
        macros = ModuleType(_PRIVATE_MACROS)
        macros.__dict__["MUJOCO_GPU_RENDERING"] = False
        macros.__dict__["CONSOLE_LOGGING_LEVEL"] = "ERROR"
        sys.modules[_PRIVATE_MACROS] = macros
    chosen = os.environ.get("MUJOCO_GL")
    if chosen is None:
        os.environ["MUJOCO_GL"] = "disable"
    try:
        yield
    finally:
        if chosen is None:
            del os.environ["MUJOCO_GL"]
