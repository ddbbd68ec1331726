"""Conversion of a robomimic file's actions from displacements to absolute poses."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from datamodules.actions.robosuite_control import with_control_delta
from datamodules.actions.robosuite_version import KEY as ROBOSUITE
from datamodules.actions.robosuite_version import recorded_generation
from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.demos.parallel import run_all, whole_file
from difftori_pl.envs.robosuite import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_release import how_to_install, installed_interface
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class _Job(NamedTuple):
    source: str
    demo: str


class _Converted(NamedTuple):
    demo: str
    actions: NDArray[np.float64]


def to_absolute(path: str | Path, output: str | Path, n_processes: int | None = None, progress: bool = True) -> int:
    """Copy a robomimic file and replace its actions by the goal poses of the controller.

    Each stored state is set in the simulator and the controller is given the stored action. Its goal is the absolute
    action, as in robomimic's `robosuite_add_absolute_actions.py`: for each arm the position in metres and the
    orientation as an axis-angle vector in radians, in the controller's frame, which is the world's in robosuite 1.4.
    Commands of grippers are kept. In `env_args`, `control_delta` becomes false, or `input_type` "absolute" in robosuite
    1.5. The output is complete or absent.

    Args:
        path: an HDF5 file with `states` and with the displacements of an OSC_POSE controller as actions.
        output: the file to write.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.

    Returns:
        The number of converted demos.

    Raises:
        DataError: the file is missing or damaged.
        ConfigurationError: the file has no states or no displacements to convert, `output` exists, or another
            generation of robosuite than the installed one recorded the file.
        MissingPackageError: robosuite is not installed.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    if output.exists():
        raise ConfigurationError(f"{output} exists: choose another name, or delete it to convert again")
    jobs = [_Job(str(path), demo) for demo in _demos(path)]
    with tqdm(total=len(jobs), unit="demo", desc="converting", disable=not progress) as bar:
        actions: dict[str, NDArray[np.float64]] = {}
        for converted in run_all(_convert, jobs, n_processes):
            actions[converted.demo] = converted.actions
            bar.update()
    output.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(output) as draft:
        _write(path, draft, actions)
    return len(actions)


def _demos(path: Path) -> list[str]:
    """Return the names of the demos of a file that can be converted."""
    file = RobomimicFile(path)
    try:
        with file.clear_errors():
            recorded, installed = recorded_generation(file.env_meta()), installed_interface().get(ROBOSUITE)
            if recorded and installed and recorded != installed:
                raise ConfigurationError(
                    f"expected a file of robosuite {installed}, which is installed, got one of {recorded}: "
                    f"{how_to_install(recorded)}"
                )
            delta = file.control_delta()
            if delta is None:
                raise ConfigurationError(
                    f"expected OSC_POSE controllers in the env_args of {path}, got none: is the file from robosuite?"
                )
            if not delta:
                raise ConfigurationError(f"expected displacements as actions in {path}, got absolute actions already")
            demos = file.demos()
            for demo in demos:
                arrays = file.arrays(demo)
                if not {"states", "actions"} <= arrays.keys() or len(arrays["states"]) < len(arrays["actions"]):
                    raise ConfigurationError(
                        f"expected a state for each action in {path}, got {demo} without them: record with states"
                    )
            return demos
    finally:
        file.close()


def _convert(job: _Job) -> _Converted:
    """Convert the actions of one demo."""
    with h5py.File(job.source, "r") as file:
        demo = file["data"][job.demo]
        env = _env(file["data"].attrs["env_args"])
        states, actions = demo["states"][()], demo["actions"][()]
        model_file = demo.attrs.get("model_file")
    absolute = actions.astype(np.float64)
    for step, action in enumerate(actions):
        env.set_state(states[step], model_file)
        absolute[step] = _goals(env, action, is_first=step == 0)
    return _Converted(job.demo, absolute)


def _goals(env: RobosuiteEnv, action: NDArray[Any], is_first: bool) -> NDArray[np.float64]:
    """Give the action to the controllers in the current state and return their goals in its place."""
    from scipy.spatial.transform import Rotation

    goals = action.astype(np.float64)
    robots = env.robosuite.robots
    for robot, part in zip(robots, np.split(goals, len(robots)), strict=True):  # views of `goals`
        for pose, controller in env.arms(robot):
            controller.update(force=True)
            if is_first:
                # In robosuite 1.4 a rotation of exactly zero keeps the previous goal, at first the current pose.
                controller.reset_goal()
            controller.set_goal(part[pose])
            rotation = Rotation.from_matrix(controller.goal_ori).as_rotvec()
            part[pose] = np.concatenate([controller.goal_pos, rotation])
    return goals


@cache
def _env(env_args: str) -> RobosuiteEnv:
    """Build the environment, once per process.

    Raises:
        ConfigurationError: a controller is not OSC_POSE.
    """
    env = Robosuite.from_env_args(json.loads(env_args), ())()
    env.reset(seed=0)
    names = {controller.name for robot in env.robosuite.robots for _, controller in env.arms(robot)}
    if names != {"OSC_POSE"}:
        raise ConfigurationError(f"expected OSC_POSE controllers, got {', '.join(sorted(names))}: other actions stay")
    return env


def _write(source: Path, path: Path, actions: dict[str, NDArray[np.float64]]) -> None:
    """Copy the file, with other actions and with absolute controllers."""
    with h5py.File(source, "r") as old, h5py.File(path, "w") as new:
        new.attrs.update(old.attrs)
        for name in old:
            old.copy(name, new)
        data = new["data"]
        env_args = json.loads(data.attrs["env_args"])
        env_args["env_kwargs"] = with_control_delta(env_args["env_kwargs"], False)
        data.attrs["env_args"] = json.dumps(env_args, indent=4)
        for demo, values in actions.items():
            del data[demo]["actions"]
            data[demo]["actions"] = values
