"""The conversion to absolute actions refuses what it cannot convert."""

from pathlib import Path

import pytest

from difftori_pl.demos import absolute
from difftori_pl.errors import ConfigurationError


def test_another_generation_of_robosuite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(absolute, "installed_interface", lambda: {"robosuite": "1.5"})
    with pytest.raises(ConfigurationError, match=r"needs robosuite 1\.4, got 1\.5"):
        absolute.to_absolute(tmp_path / "demos.hdf5", tmp_path / "absolute.hdf5")
