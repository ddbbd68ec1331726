"""Fixtures of the tests with simulators; environments are shared because they are slow to build."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.vulkan import prepare_vulkan
from difftori_pl.errors import MissingPackageError


@pytest.fixture(autouse=True)
def _robosuite_is_installed() -> None:
    if importlib.util.find_spec("robosuite") is None:
        pytest.skip("robosuite is not installed")


@pytest.fixture(scope="session")
def square_env() -> Iterator[RobosuiteEnv]:
    env = Robosuite("NutAssemblySquare")()
    yield env
    env.close()


@pytest.fixture(scope="module")
def vulkan() -> None:
    """Vulkan's driver, which ManiSkill2 and ManiSkill3 need."""
    try:
        prepare_vulkan()
    except MissingPackageError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def human_file() -> Path:
    """Path of robomimic's proficient-human Square demonstrations."""
    folder = os.environ.get("DIFFTORI_DATA")
    if folder is None:
        pytest.skip("DIFFTORI_DATA is not set; it must name a folder with robomimic/square/ph/low_dim.hdf5")
    return Path(folder) / "robomimic/square/ph/low_dim.hdf5"
