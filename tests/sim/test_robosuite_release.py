"""Settings of robosuite 1.4 move the arm alike in 1.4 and 1.5; models of another generation are refused."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from difftori_pl.demos import RobosuitePlayer, record
from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_import import OSC_POSE
from difftori_pl.envs.robosuite_release import Release15, find_release
from difftori_pl.errors import ConfigurationError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]

_JOINT: dict[str, Any] = {"input_max": 1, "input_min": -1, "interpolation": None, "damping_ratio": 1}
CONTROLLERS: dict[str, dict[str, Any]] = {
    "delta": OSC_POSE,
    "absolute": {**OSC_POSE, "control_delta": False},
    "joint": {"type": "JOINT_POSITION", "output_max": 0.05, "output_min": -0.05, "kp": 50, **_JOINT},
    "torque": {"type": "JOINT_TORQUE", "output_max": 3, "output_min": -3, **_JOINT},
}

START = (-0.1028, 0.0, 1.011)
"""Position of the hand in the first state, metres."""

REACHED_WITH_1_4_1 = {
    "delta": ([-0.038639, -0.021729, 1.2117], [0.847524, 0.386785, 0.323931, 0.16483], 1e-4),
    "absolute": ([-0.046621, -0.082967, 1.078347], [0.731252, -0.678485, 0.040629, 0.057262], 1e-4),
    "joint": ([-0.129772, 0.04758, 0.992228], [0.999117, 0.015134, 0.036608, -0.013982], 1e-4),
    # The fingers of 1.5 close more slowly, which moves an arm that no controller holds.
    "torque": ([-0.265614, 0.156599, 0.974549], [0.991373, -0.122428, 0.001945, -0.046772], 1e-3),
}
"""Position and quaternion of the hand after 30 actions, recorded with robosuite 1.4.1, and the tolerance."""


def _actions(controller: str, action_dim: int) -> np.ndarray:
    if controller == "absolute":
        angle = np.arange(30) / 10
        sine, cosine, zero = np.sin(angle), np.cos(angle), np.zeros(30)
        position = [-0.1 + 0.1 * sine, 0.1 * cosine, 1.05 + 0.05 * sine]
        return np.stack([*position, 3 + zero, 0.2 * sine, zero, 1 + zero], axis=1)
    held = np.random.default_rng(0).uniform(-0.6, 0.6, (5, action_dim))
    held[:, 2] = np.abs(held[:, 2])
    return np.repeat(held, 6, axis=0)


@pytest.mark.parametrize("controller", CONTROLLERS)
def test_settings_of_1_4_reach_the_same_pose(controller: str) -> None:
    kwargs = {"controller_configs": CONTROLLERS[controller], "initialization_noise": None}
    env = Robosuite("Lift", obs_keys=(), env_kwargs=kwargs)()
    env.reset(seed=0)
    np.testing.assert_allclose(env.low_dim()["robot0_eef_pos"], START, atol=1e-4)
    # `env.step` limits actions to [-1, 1], but absolute ones are poses.
    for action in _actions(controller, env.action_space.shape[0]):
        env.robosuite.step(action)
    env._refresh()
    position, quaternion, tolerance = REACHED_WITH_1_4_1[controller]
    assert np.linalg.norm(np.subtract(position, START)) > 0.05
    values = env.low_dim()
    np.testing.assert_allclose(values["robot0_eef_pos"], position, atol=tolerance)
    np.testing.assert_allclose(values["robot0_eef_quat"], quaternion, atol=tolerance)
    env.close()


def test_the_object_vector_has_the_order_of_the_release(square_env: RobosuiteEnv) -> None:
    square_env.reset(seed=0)
    for action in np.full((5, 7), 0.5, dtype=np.float32):
        square_env.step(action)
    values = square_env.low_dim()
    pose, relative = (
        [values[f"SquareNut_{name}"] for name in names]
        for names in (("pos", "quat"), ("to_robot0_eef_pos", "to_robot0_eef_quat"))
    )
    in_order = [*relative, *pose] if isinstance(find_release(), Release15) else [*pose, *relative]
    np.testing.assert_array_equal(values["object"], np.concatenate(in_order))


def test_relative_poses_belong_to_the_current_state(square_env: RobosuiteEnv) -> None:
    # Alone, robosuite 1.5.2 computes them from the object's pose at the last reading.
    square_env.reset(seed=0)
    state = square_env.state()
    before = square_env.low_dim()["SquareNut_to_robot0_eef_pos"]
    address = square_env.robosuite.sim.model.get_joint_qpos_addr("SquareNut_joint0")[0]
    moved = state.copy()
    moved[1 + address] += 0.1
    square_env.set_state(moved)
    after = square_env.low_dim()["SquareNut_to_robot0_eef_pos"]
    assert np.linalg.norm(after - before) == pytest.approx(0.1, abs=1e-6)


def test_a_model_of_another_generation_is_refused() -> None:
    env = Robosuite("Lift", obs_keys=())()
    env.reset(seed=0)
    other = env.model_file().replace("grip_site", "another_site")
    with pytest.raises(ConfigurationError, match=r"expects the site gripper0_.*grip_site in the model of Lift"):
        env.set_state(env.state(), other)
    env.close()


def test_a_recording_names_its_release_and_builds_its_environment(tmp_path: Path) -> None:
    path = tmp_path / "lift.hdf5"
    record(RobosuitePlayer("lift"), path, episodes=1, n_processes=1, progress=False)
    with h5py.File(path, "r") as file:
        env_args = json.loads(file["data"].attrs["env_args"])
        demo = file["data/demo_0"]
        states, actions = demo["states"][()], demo["actions"][()]
    release = find_release()
    assert env_args["env_version"] == release.version
    env = Robosuite.from_env_args(env_args, ())()
    assert env.interface == release.interface
    assert env.interface.items() <= Robosuite("Lift").interface.items()
    env.reset(seed=0)
    for state, action in zip(states, actions, strict=True):
        np.testing.assert_array_equal(env.state(), state)
        env.step(action)
    env.close()
