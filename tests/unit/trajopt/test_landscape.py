import sys

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.trajopt import TrajOptLayer, draw_landscape, landscape
from difftori_pl.trajopt.backward import Detached
from difftori_pl.trajopt.solvers import Adam
from tests import problems


@pytest.fixture
def case():
    return problems.quadratic()


@pytest.fixture
def solution(case):
    layer = TrajOptLayer(Adam(max_steps=20), Detached())
    return layer(case.objective, case.latent, case.actions, trace=True)


def test_values_equal_the_objective(case, solution):
    plane = landscape(case.objective, case.latent, solution, element=2, components=((0, 1), (1, 2)), n_points=5)
    actions = solution.actions[2:3].clone()
    actions[0, 0, 1], actions[0, 1, 2] = -0.5, 1.0
    assert_close(plane.values[1, 4], case.objective(case.latent[2:3], actions)[0].detach())
    assert_close(plane.grid, torch.linspace(-1, 1, 5, dtype=torch.float64))
    assert plane.path.shape == (21, 2)
    assert_close(plane.path[0], case.actions[2, [0, 1], [1, 2]])
    assert_close(plane.path[-1], solution.actions[2, [0, 1], [1, 2]])


def test_draws_a_figure(case, solution, tmp_path):
    pytest.importorskip("matplotlib")
    figure = draw_landscape(landscape(case.objective, case.latent, solution, n_points=7))
    figure.savefig(tmp_path / "landscape.png", dpi=40)
    assert (tmp_path / "landscape.png").read_bytes().startswith(b"\x89PNG")
    assert figure.axes[0].get_xlabel() == "action component 0 at step 0"


def test_refuses_components_that_do_not_exist(case, solution):
    with pytest.raises(ConfigurationError, match=r"shape \(2, 3\), got \(2, 0\)"):
        landscape(case.objective, case.latent, solution, components=((0, 0), (2, 0)))


def test_message_without_matplotlib(case, solution, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingPackageError, match=r"pip install 'difftori-pl\[plot\]'"):
        draw_landscape(landscape(case.objective, case.latent, solution, n_points=2))
