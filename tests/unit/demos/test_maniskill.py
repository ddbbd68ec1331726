"""Planning that fails."""

from pathlib import Path

import pytest

from difftori_pl.demos import maniskill
from difftori_pl.errors import ConfigurationError


def test_a_planner_that_always_fails_comes_to_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(maniskill, "_record_episode", asked.append)  # gives None: no success
    with pytest.raises(ConfigurationError, match="50 plans for PickCube-v0 failed one after another"):
        maniskill.plan_demos("PickCube-v0", tmp_path, episodes=3, n_processes=1, progress=False)
    assert [job.seed for job in asked] == list(range(50))
