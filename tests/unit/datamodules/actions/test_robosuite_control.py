"""Displacements and absolute poses in `env_args`: datamodule, recipe of the environment, and `difftori data check`."""

import json
from pathlib import Path
from typing import Any

import h5py
import pytest

from datamodules import RobomimicDataModule
from datamodules.actions.robosuite_control import control_delta, with_control_delta
from datamodules.formats.checks import check
from difftori_pl.envs import Robosuite
from tests.data import ENV_META, write_robomimic

DELTA = {"type": "OSC_POSE", "control_delta": True, "kp": 150}


@pytest.mark.parametrize(
    ("configs", "expected"),
    [
        (DELTA, True),
        ({**DELTA, "control_delta": False}, False),
        ([DELTA, DELTA], True),
        ([DELTA, {**DELTA, "control_delta": False}], None),
        ({"type": "JOINT_VELOCITY"}, None),
        (None, None),
    ],
)
def test_the_controllers_say_what_actions_are(configs: Any, expected: bool | None) -> None:
    assert control_delta({"controller_configs": configs}) is expected


@pytest.mark.parametrize("configs", [DELTA, [DELTA, DELTA]])
def test_all_arms_are_changed_in_a_copy(configs: Any) -> None:
    kwargs = {"controller_configs": configs, "robots": ["Panda"]}
    changed = with_control_delta(kwargs, False)
    assert control_delta(changed) is False
    assert control_delta(kwargs) is True
    assert with_control_delta(changed, True) == kwargs


def write(path: Path, delta: bool, scale: float = 1.0) -> Path:
    write_robomimic(path)
    with h5py.File(path, "a") as file:
        meta = {**ENV_META, "env_kwargs": with_control_delta({"controller_configs": DELTA}, delta)}
        file["data"].attrs["env_args"] = json.dumps(meta)
        for demo in file["data"].values():
            demo["actions"][...] = scale * demo["actions"][()]
    return path


@pytest.mark.parametrize("delta", [True, False])
def test_data_and_environment_agree(delta: bool, tmp_path: Path) -> None:
    data = RobomimicDataModule(str(write(tmp_path / "demos.hdf5", delta)), ["object"], 7)
    assert data.interface["control_delta"] is delta
    assert Robosuite.from_env_args(data.env_meta).interface["control_delta"] is delta
    assert Robosuite(control_delta=delta).interface["control_delta"] is delta
    assert Robosuite.from_env_args({**data.env_meta, "env_kwargs": {}}).interface["control_delta"] is True


def test_data_check_accepts_metres_in_a_file_with_absolute_actions(tmp_path: Path) -> None:
    assert check(write(tmp_path / "absolute.hdf5", delta=False, scale=3.0)) == []
    (fault,) = check(write(tmp_path / "delta.hdf5", delta=True, scale=3.0))
    assert fault.rule == "action_range"


@pytest.mark.parametrize(("kind", "value"), [("delta", True), ("absolute", False)])
def test_composite_controllers_of_robosuite_1_5(kind: str, value: bool) -> None:
    arm, gripper = {"type": "OSC_POSE", "input_type": kind}, {"type": "GRIP"}
    kwargs = {"controller_configs": {"type": "BASIC", "body_parts": {"right": arm, "torso": gripper}}}
    assert control_delta(kwargs) is value
    changed = with_control_delta(kwargs, not value)
    assert control_delta(changed) is not value
    assert changed["controller_configs"]["body_parts"]["torso"] == gripper
    assert control_delta(kwargs) is value  # the argument is unchanged
