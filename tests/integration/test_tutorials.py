"""The tutorials run as they stand."""

import importlib.util
import re
from pathlib import Path

import pytest

from difftori_pl.evaluation.tables import read_evaluations
from tests.tutorials import TUTORIALS, run_tutorial


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


@pytest.mark.slow
def test_the_layer_alone(tmp_path: Path) -> None:
    needs("matplotlib")
    printed = run_tutorial(TUTORIALS / "layer.md", tmp_path)
    assert float(re.findall(r"([\d.]+) rad from upright", printed)[0]) < 0.3
    assert float(re.findall(r"weight ([\d.]+);", printed)[0]) == pytest.approx(0.3, abs=0.01)
    for name in ("landscape.png", "swing_up.png"):
        assert (tmp_path / "build" / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_your_own_solver_and_encoder(tmp_path: Path) -> None:
    printed = run_tutorial(TUTORIALS / "own_parts.md", tmp_path)
    action = [float(number) for number in re.findall(r"-?\d+\.\d+", printed.strip().splitlines()[-1])]
    assert len(action) == 2
    assert 0 < max(map(abs, action)) <= 1


@pytest.mark.sim
def test_refine_your_own_policy(tmp_path: Path) -> None:
    needs("metaworld")
    run_tutorial(TUTORIALS / "refine.md", tmp_path)
    solved = {
        found.name: sum(episode["success"] for episode in found.episodes.values())
        for found in read_evaluations(tmp_path / "runs")
        if found.selected or found.name == "base"
    }
    assert solved["base"] == 0
    assert solved["policy"] >= 5  # of 20; 13 when the tutorial was written


@pytest.mark.sim
def test_reinforcement_learning(tmp_path: Path) -> None:
    needs("dm_control")
    printed = run_tutorial(TUTORIALS / "rl.md", tmp_path)
    curve = [(int(step), int(value)) for step, value in re.findall(r"^ *(\d+) +(\d+) #*$", printed, re.MULTILINE)]
    assert len(curve) == 10
    assert curve[-1][0] == 10_000
    assert max(value for _, value in curve[5:]) > 1.2 * max(value for _, value in curve[:2])
