"""The programs on the page of the optimiser run."""

import re
from pathlib import Path

import pytest
import torch

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Unroll
from tests import cases, problems

PAGE = (Path(__file__).parents[3] / "docs" / "trajopt.md").read_text()
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.slow
def test_pendulum_example_swings_up():
    program = next(program for program in PROGRAMS if "pendulum" in program)
    names = {}
    with torch.random.fork_rng():
        exec(program, names)
    angle, speed = names["state"][0].tolist()
    assert torch.tensor(angle).cos() > 0.9
    assert abs(speed) < 2


def test_custom_solver_example_converges():
    names = {}
    exec(next(program for program in PROGRAMS if "class GradientAscent" in program), names)
    case = problems.quadratic()
    solution = TrajOptLayer(names["GradientAscent"](200), Unroll())(case.objective, case.latent, case.actions)
    torch.testing.assert_close(solution.actions, case.optimum(case.latent), rtol=1e-6, atol=1e-8)


def test_every_part_is_on_the_page():
    for part in {**cases.SOLVERS, **cases.MODES, **cases.BOUNDS}:
        if part.__name__ != "InUnits":
            assert f"`{part.__name__}" in PAGE, f"{part.__name__} is missing from docs/trajopt.md"
