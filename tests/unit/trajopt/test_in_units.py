"""Solves with actions in other units than the bounds."""

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Implicit, Unroll
from difftori_pl.trajopt.bounds import InUnits, Projection
from difftori_pl.trajopt.solvers import LBFGS, LevenbergMarquardt, NewtonCG, Solver


def test_bounds_apply_to_actions_times_unit() -> None:
    unit = torch.tensor([0.5, 0.1])
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=50, step_size=1e-2), Unroll(), Projection(-1.0, 1.0))
    start = torch.zeros(1, 1, 2)
    solved = layer(lambda z, a: a.sum((1, 2)), torch.zeros(1, 1), start, unit).actions
    assert_close(solved * unit, torch.ones(1, 1, 2))


def test_unit_does_not_change_a_solve_away_from_the_bounds() -> None:
    unit = torch.tensor([0.5, 0.1], dtype=torch.float64)
    centre = torch.tensor([0.3, -0.05], dtype=torch.float64)
    start = torch.zeros(1, 1, 2, dtype=torch.float64)
    latent = torch.zeros(1, 1, dtype=torch.float64)
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=30, step_size=1e-5, damping=1.0), Unroll(), Projection(-9.0, 9.0))

    def squares(z: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return -(a - centre / unit).square().sum((1, 2))

    assert_close(layer(squares, latent, start, unit).actions, layer(squares, latent, start).actions)


def test_component_on_its_bound_is_active_in_any_unit() -> None:
    units = 0.01 + torch.rand(1000, generator=torch.Generator().manual_seed(0))
    bounds = InUnits(Projection(-1.0, 1.0), units)
    for sign in (1.0, -1.0):
        onto_the_bound = bounds.project(sign * torch.full((1, 1, 1000), 1e6))
        assert bounds.active(onto_the_bound, sign * torch.ones(1, 1, 1000)).all()
        assert not bounds.active(onto_the_bound, -sign * torch.ones(1, 1, 1000)).any()
        assert not bounds.active(0.999 * onto_the_bound, sign * torch.ones(1, 1, 1000)).any()


@pytest.mark.parametrize("kind", [LBFGS, NewtonCG])
def test_gradient_of_solves_that_end_on_bounds_in_any_unit(kind: type[Solver]) -> None:
    random = torch.Generator().manual_seed(0)
    unit = 0.05 + torch.rand(7, generator=random)
    centre = torch.randn(64, 7, generator=random).requires_grad_()
    layer = TrajOptLayer(kind(max_steps=30), Implicit(), Projection(-1.0, 1.0))
    solution = layer(
        lambda z, a: -(a - z.unsqueeze(1)).square().sum((1, 2)), centre / unit, torch.zeros(64, 1, 7), unit
    )
    assert_close(solution.actions.squeeze(1) * unit, centre.clamp(-1.0, 1.0), atol=1e-4, rtol=0.0)
    (gradient,) = torch.autograd.grad((solution.actions.squeeze(1) * unit).sum(), centre)
    assert_close(gradient, (centre.abs() < 1.0).float(), atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("size", [0.0, -1.0, torch.inf, torch.nan])
def test_refuses_a_unit_that_is_not_positive_and_finite(size: float) -> None:
    with pytest.raises(ConfigurationError, match=r"unit must be positive and finite, got \[1.0, "):
        _solve(torch.tensor([1.0, size]))


@pytest.mark.parametrize("shape", [(3,), (1,), (1, 2)])
def test_refuses_a_unit_of_the_wrong_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ShapeError, match="unit must have one value per action component"):
        _solve(torch.ones(shape))


def test_refuses_a_unit_that_is_not_a_tensor() -> None:
    with pytest.raises(ConfigurationError, match="unit must be a tensor, got list"):
        _solve([1.0, 1.0])  # type: ignore[arg-type]


def test_dtype_of_the_unit_does_not_change_that_of_the_actions() -> None:
    assert _solve(torch.ones(2, dtype=torch.float64)).dtype == torch.float32


def _solve(unit: torch.Tensor) -> torch.Tensor:
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=2), Unroll())
    return layer(lambda z, a: a.sum((1, 2)), torch.zeros(1, 1), torch.zeros(1, 1, 2), unit).actions
