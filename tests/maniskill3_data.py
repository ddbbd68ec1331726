"""A small recording of ManiSkill3, and copies of it."""

import shutil
from pathlib import Path

FIXTURE = Path(__file__).parent / "fixtures/maniskill3/trajectory.h5"
"""Five scripted episodes of PickCube-v1; see the README there."""

VECTORS = {"agent/qpos": 9, "extra/tcp_pose": 7, "extra/goal_pos": 3, "extra/obj_pose": 7, "extra/is_grasped": 1}
"""Sizes of the observations that the shipped configurations use."""

IMAGE = "sensor_data/base_camera/rgb"


def copy_maniskill3(folder: Path) -> Path:
    """Copy the HDF5 file and its JSON file to a folder and return the path of the HDF5 file."""
    shutil.copy(FIXTURE.with_suffix(".json"), folder)
    return Path(shutil.copy(FIXTURE, folder))
