"""Files of absolute actions, by robomimic and Diffusion Policy, whose `env_args` still describe displacements."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules import DataError, RobomimicDataModule
from datamodules.formats.checks import check
from datamodules.formats.robomimic_file import RobomimicFile
from tests.data import ENV_META, write_robomimic

DELTA = {"type": "OSC_POSE", "control_delta": True}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Write displacements as `actions` and absolute poses as `actions_abs`."""
    path = write_robomimic(tmp_path / "demos.hdf5")
    with h5py.File(path, "a") as file:
        kwargs = {**ENV_META["env_kwargs"], "controller_configs": DELTA}
        file["data"].attrs["env_args"] = json.dumps(ENV_META | {"env_kwargs": kwargs})
        for demo in file["data"].values():
            demo["actions_abs"] = 3 * demo["actions"][()]
    return path


@pytest.fixture
def replaced(path: Path) -> Path:
    """Replace the displacements by absolute poses."""
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            del demo["actions"]
            demo.move("actions_abs", "actions")
    return path


def datamodule(path: Path, **arguments: Any) -> RobomimicDataModule:
    return RobomimicDataModule(str(path), ["object"], 7, horizon=2, action_scaling="min_max", **arguments)


def test_another_array_of_actions(path: Path) -> None:
    data = datamodule(path, action_key="actions_abs", control_delta=False, validation_fraction=0.34)
    assert data.interface["control_delta"] is False
    _, actions = next(iter(data.held_out_episodes()))
    poses = [RobomimicFile(path, "actions_abs").read(demo, "actions") for demo in data.demos]
    assert any(np.array_equal(actions.numpy(), values.astype(np.float32)) for values in poses)
    assert max(np.abs(values).max() for values in poses) > 2
    assert datamodule(path).interface["control_delta"] is True


def test_poses_in_place_of_displacements_are_refused_until_their_kind_is_stated(replaced: Path) -> None:
    advice = r"expected actions in \[-1, 1\], found .* absolute poses, set data\.init_args\.control_delta to false"
    with pytest.raises(DataError, match=advice):
        datamodule(replaced).setup()
    (fault,) = check(replaced)
    assert "control_delta" in fault.advice
    for delta in (True, False):
        assert datamodule(replaced, control_delta=delta).interface["control_delta"] is delta


def test_an_absent_array_of_actions(path: Path) -> None:
    with pytest.raises(
        DataError, match=r"expected an array `actions_pose`, found none .*set data\.init_args\.action_key"
    ):
        datamodule(path, action_key="actions_pose").setup()
