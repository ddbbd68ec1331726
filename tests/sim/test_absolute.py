"""Absolute actions: conversion of a file, the environment that takes them, and refused files."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lightning_utilities.core.rank_zero import rank_zero_only

from datamodules.actions.robosuite_control import control_delta
from datamodules.actions.robosuite_version import FIRST, KEY
from datamodules.formats.checks import check
from difftori_pl.demos.absolute import to_absolute
from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_release import installed_interface
from difftori_pl.errors import ConfigurationError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]

N_STEPS = 25
ARM = {
    "type": "OSC_POSE", "input_max": 1, "input_min": -1, "output_max": [0.05] * 3 + [0.5] * 3,
    "output_min": [-0.05] * 3 + [-0.5] * 3, "kp": 150, "damping_ratio": 1, "impedance_mode": "fixed",
    "kp_limits": [0, 300], "damping_ratio_limits": [0, 10], "uncouple_pos_ori": True, "input_type": "delta",
    "input_ref_frame": "base", "interpolation": None, "ramp_ratio": 0.2, "gripper": {"type": "GRIP"},
}  # fmt: skip
COMPOSITE = {"controller_configs": {"type": "BASIC", "body_parts": {"right": ARM}}}
"""Arguments with the controller of robosuite 1.5, whose frame is that of the robot's base."""


@pytest.fixture(scope="module", params=["robomimic", "composite"])
def delta_file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Record random displacements, some of them without a rotation."""
    if request.param == "composite" and installed_interface().get(KEY) == FIRST:
        pytest.skip("robosuite 1.4 has no composite controllers")
    path = tmp_path_factory.mktemp("absolute") / "lift.hdf5"
    env = Robosuite("Lift", env_kwargs=COMPOSITE if request.param == "composite" else {})()
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env.env_args())
        for number in range(2):
            env.reset(seed=number)
            actions = random.uniform(-1, 1, (N_STEPS, 7))
            actions[:3, 3:6] = 0.0
            actions[10:15, 3:6] = 0.0
            actions[::2, 6] = 1.0
            states = []
            for action in actions:
                states.append(env.state())
                env.robosuite.step(action)
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update({"num_samples": N_STEPS, "model_file": env.model_file()})
            demo["actions"], demo["states"], demo["obs/state"] = actions, np.stack(states), np.stack(states)
            demo["final_state"] = env.state()
        file["mask/train"] = np.array(["demo_0"], dtype="S")
    env.close()
    return path


@pytest.fixture(scope="module")
def absolute_file(delta_file: Path) -> Path:
    output = delta_file.with_name("lift_abs.hdf5")
    assert to_absolute(delta_file, output, n_processes=1, progress=False) == 2
    return output


def replayed(path: Path, demo: str) -> tuple[np.ndarray, RobosuiteEnv]:
    """Return the state after the actions of a demo from its first state."""
    with h5py.File(path, "r") as file:
        group = file["data"][demo]
        env = Robosuite.from_env_args(json.loads(file["data"].attrs["env_args"]), ())()
        env.reset(seed=0)
        env.set_state(group["states"][0], group.attrs["model_file"])
        # The controller holds its redundant joint near the posture at the start of the episode.
        ((_, controller),) = env.arms(env.robosuite.robots[0])
        controller.update_initial_joints(group["states"][0][1:8])
        for action in group["actions"]:
            env.robosuite.step(action)
    return env.state(), env


@pytest.mark.parametrize("demo", ["demo_0", "demo_1"])
def test_absolute_actions_lead_to_the_recorded_state(absolute_file: Path, demo: str) -> None:
    state, env = replayed(absolute_file, demo)
    assert control_delta(env.env_args()["env_kwargs"]) is False
    env.close()
    with h5py.File(absolute_file, "r") as file:
        # Integration amplifies the rounding of axis-angle vectors in robosuite's conversion to matrices.
        np.testing.assert_allclose(state, file["data"][demo]["final_state"][()], rtol=0, atol=1e-5)
        assert np.abs(state - file["data"][demo]["states"][0]).max() > 0.1


def test_everything_else_is_copied(delta_file: Path, absolute_file: Path) -> None:
    with h5py.File(delta_file) as old, h5py.File(absolute_file) as new:
        before, after = (json.loads(file["data"].attrs["env_args"]) for file in (old, new))
        changed_text = json.dumps(before).replace('"control_delta": true', '"control_delta": false')
        assert after == json.loads(changed_text.replace('"input_type": "delta"', '"input_type": "absolute"')) != before
        assert new["mask/train"][()].tolist() == [b"demo_0"]
        for demo in old["data"]:
            assert dict(new["data"][demo].attrs) == dict(old["data"][demo].attrs)
            np.testing.assert_array_equal(new["data"][demo]["states"], old["data"][demo]["states"])
            np.testing.assert_array_equal(new["data"][demo]["actions"][:, 6], old["data"][demo]["actions"][:, 6])
            assert new["data"][demo]["actions"].shape == (N_STEPS, 7)
    rank_zero_only.rank = 0  # what importing a trainer sets
    assert check(absolute_file) == []


def test_the_environment_of_absolute_actions_has_no_range_but_that_of_the_gripper() -> None:
    env = Robosuite("Lift", control_delta=False)()
    space: Any = env.action_space
    assert np.isinf(space.low[:6]).all()
    assert np.isinf(space.high[:6]).all()
    assert (space.low[6], space.high[6]) == (-1.0, 1.0)
    assert control_delta(json.loads(json.dumps(env.env_args()))["env_kwargs"]) is False
    env.close()


def changed(path: Path, folder: Path, controller: str = "OSC_POSE") -> Path:
    """Copy a file, with another type of controller."""
    copy = folder / "copy.hdf5"
    copy.write_bytes(path.read_bytes())
    with h5py.File(copy, "a") as file:
        file["data"].attrs["env_args"] = file["data"].attrs["env_args"].replace("OSC_POSE", controller)
    return copy


def test_what_cannot_be_converted_is_refused(delta_file: Path, absolute_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.hdf5"
    with pytest.raises(ConfigurationError, match=r"lift_abs\.hdf5 exists: choose another name"):
        to_absolute(delta_file, absolute_file)
    with pytest.raises(ConfigurationError, match=r"expected displacements .* got absolute actions already"):
        to_absolute(absolute_file, output)
    with pytest.raises(ConfigurationError, match="expected OSC_POSE controllers, got OSC_POSITION"):
        to_absolute(changed(delta_file, tmp_path, "OSC_POSITION"), output, n_processes=1, progress=False)
    without = changed(delta_file, tmp_path)
    with h5py.File(without, "a") as file:
        del file["data/demo_1/states"]
    with pytest.raises(ConfigurationError, match=r"expected a state for each action .* got demo_1 without them"):
        to_absolute(without, output)
    with h5py.File(without, "a") as file:
        file["data"].attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {}})
    with pytest.raises(ConfigurationError, match=r"expected OSC_POSE controllers in the env_args .* got none"):
        to_absolute(without, output)
    assert [file.name for file in tmp_path.iterdir()] == ["copy.hdf5"]
