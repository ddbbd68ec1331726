"""Actions in other units than their bounds."""

import torch
from torch.testing import assert_close

from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Unroll
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import LevenbergMarquardt


def test_the_bounds_hold_in_the_bounds_units() -> None:
    unit = torch.tensor([0.5, 0.1])
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=50, step_size=1e-2), Unroll(), Projection(-1.0, 1.0))
    start = torch.zeros(1, 1, 2)
    solved = layer(lambda z, a: a.sum((1, 2)), torch.zeros(1, 1), start, unit).actions
    assert_close(solved * unit, torch.ones(1, 1, 2))


def test_a_solve_in_units_is_the_solve_of_the_scaled_problem() -> None:
    unit = torch.tensor([0.5, 0.1], dtype=torch.float64)
    centre = torch.tensor([0.3, -0.05], dtype=torch.float64)
    start = torch.zeros(1, 1, 2, dtype=torch.float64)
    latent = torch.zeros(1, 1, dtype=torch.float64)
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=30, step_size=1e-5, damping=1.0), Unroll(), Projection(-9.0, 9.0))

    def squares(z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return -(a - centre / unit).square().sum((1, 2))

    assert_close(layer(squares, latent, start, unit).actions, layer(squares, latent, start).actions)
