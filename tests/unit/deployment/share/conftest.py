"""A shared policy for every test of this folder."""

from pathlib import Path

import pytest

from difftori_pl.deployment.share import share
from tests.unit.deployment.share.common import BC


@pytest.fixture(autouse=True)
def _needs_safetensors() -> None:
    pytest.importorskip("safetensors.torch")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    share(BC, tmp_path / "policy")
    return tmp_path / "policy"
