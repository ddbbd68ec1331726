from pathlib import Path

import pytest

from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.errors import ConfigurationError


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(ZeroDivisionError), whole_file(path) as draft:
        draft.write_text(str(1 / 0))
    assert list(tmp_path.iterdir()) == []
    with whole_file(path) as draft:
        draft.write_text("whole")
    assert [file.name for file in tmp_path.iterdir()] == ["x"]
    assert path.read_text() == "whole"


def test_parts_of_another_recipe_are_rejected(tmp_path: Path) -> None:
    parts = Parts(tmp_path / "x.hdf5", {"seed": 0})
    parts["a"].touch()
    assert Parts(tmp_path / "x.hdf5", {"seed": 0})["a"].exists()
    with pytest.raises(ConfigurationError, match="has parts of another recording or conversion"):
        Parts(tmp_path / "x.hdf5", {"seed": 1})
    parts.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n_processes", [1, 2])
def test_every_job_and_follow_up_job_is_run(n_processes: int) -> None:
    results = run_all(abs, [-1, -2, -3], n_processes, lambda result: -10 if result == 2 else None)
    assert sorted(results) == [1, 2, 3, 10]
