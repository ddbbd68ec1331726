"""The report of a GPU, made on the CPU with tiny sizes."""

from pathlib import Path

import pytest
import torch

from benchmarks import gpu_report
from difftori_pl.trajopt import compilation


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the backend of torch.compile, which the report replaces."""
    monkeypatch.setattr(compilation, "BACKEND", compilation.BACKEND)
    compilation.compiled.cache_clear()


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_report_has_every_table(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    gpu_report.main(["--device=cpu", "--small", f"--output={path}"])
    text = path.read_text()
    compilation.compiled.cache_clear()
    assert "The fastest plan with at least the mean return of the published solver is" in text
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 8 + 4 + 6, "three tables with their headings"
    assert {row[0].strip("| ") for row in rows} >= {"Adam, 20 steps, compiled", "LBFGS", "TD-MPC (MPPI)"}
    differences = [float(row[-1].strip("| ")) for row in rows if row[0].strip("| ") in ("LevenbergMarquardt", "Adam")]
    assert len(differences) == 2
    assert max(differences) < 1e-4, "compiled and eager steps agree"


@pytest.mark.usefixtures("backend")
def test_a_part_after_the_limit_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_report, "LIMIT_S", 0)
    gpu_report.main(["--device=cpu", "--small", f"--output={tmp_path / 'report.md'}"])
    assert (tmp_path / "report.md").read_text().count("Not run: the limit of 0 s was reached.") == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_missing_gpu_is_reported_in_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "report.md"
    with pytest.raises(SystemExit, match="no CUDA GPU was found: run this on a machine with one, or pass --device cpu"):
        gpu_report.main([f"--output={path}"])
    assert not path.exists()
