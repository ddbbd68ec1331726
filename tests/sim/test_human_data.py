"""The environment reproduces robomimic's human demonstrations, which older versions of all packages wrote."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_import import robomimic_env_kwargs

pytestmark = pytest.mark.sim


@pytest.mark.parametrize("demo", ["demo_0", "demo_7", "demo_50"])
def test_stored_states_give_the_stored_observations_and_success(
    square_env: RobosuiteEnv, human_file: Path, demo: str
) -> None:
    with h5py.File(human_file, "r") as file:
        group = file["data"][demo]
        for step in range(0, len(group["states"]), 10):
            square_env.set_state(group["states"][step])
            values = square_env.low_dim()
            for key in group["obs"]:
                np.testing.assert_allclose(values[key], group["obs"][key][step], atol=1e-5, err_msg=f"{key}, {step}")
        square_env.set_state(group["states"][-1])
        assert square_env.is_success()


def test_the_settings_of_the_environment_equal_those_of_the_file(human_file: Path) -> None:
    with h5py.File(human_file, "r") as file:
        env_args = json.loads(file["data"].attrs["env_args"])
    assert robomimic_env_kwargs(("Panda",)) == env_args["env_kwargs"]
