"""The conversion to absolute actions refuses what it cannot convert."""

import json
from pathlib import Path

import h5py
import pytest

from difftori_pl.demos import absolute
from difftori_pl.errors import ConfigurationError
from tests.data import ENV_META, write_robomimic


def test_another_generation_of_robosuite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5")
    with h5py.File(path, "a") as file:
        file["data"].attrs["env_args"] = json.dumps(ENV_META | {"env_version": "1.4.1"})
    monkeypatch.setattr(absolute, "installed_interface", lambda: {"robosuite": "1.5"})
    message = r"expected a file of robosuite 1\.5, which is installed, got one of 1\.4: use .*robosuite14"
    with pytest.raises(ConfigurationError, match=message):
        absolute.to_absolute(path, tmp_path / "absolute.hdf5")
