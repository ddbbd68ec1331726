"""The environment reproduces robomimic's human demonstrations, which robosuite 1.4.1 and older packages wrote."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_import import robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import Release15, find_release

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]


@pytest.mark.parametrize("demo", ["demo_0", "demo_7", "demo_50"])
def test_stored_states_give_the_stored_observations_and_success(
    square_env: RobosuiteEnv, human_file: Path, demo: str
) -> None:
    with h5py.File(human_file, "r") as file:
        group = file["data"][demo]
        for step in range(0, len(group["states"]), 10):
            square_env.set_state(group["states"][step])
            values = square_env.low_dim()
            for key, expected in _observed(group["obs"], step).items():
                np.testing.assert_allclose(values[key], expected, atol=1e-5, err_msg=f"{key}, {step}")
        square_env.set_state(group["states"][-1])
        assert square_env.is_success()


def _observed(group: h5py.Group, step: int) -> dict[str, np.ndarray]:
    """Return the stored observations in the layout of the installed robosuite."""
    observed = {key: group[key][step] for key in group}
    if isinstance(find_release(), Release15):
        # It observes no velocity of the hand, and its `object` begins with the pose relative to the hand.
        del observed["robot0_eef_vel_lin"], observed["robot0_eef_vel_ang"]
        observed["object"] = np.concatenate([observed["object"][7:], observed["object"][:7]])
    return observed


def test_the_settings_of_the_environment_equal_those_of_the_file(human_file: Path) -> None:
    with h5py.File(human_file, "r") as file:
        env_args = json.loads(file["data"].attrs["env_args"])
    assert robomimic_env_kwargs(("Panda",)) == env_args["env_kwargs"]
