import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Unroll
from difftori_pl.trajopt.bounds import InnerClamp, Projection, Tanh, Unbounded
from difftori_pl.trajopt.solvers import LevenbergMarquardt
from tests import cases, problems


@pytest.mark.parametrize("bounds", [Projection, InnerClamp, Tanh])
@pytest.mark.parametrize(("low", "high"), [(1.0, -1.0), (0.5, 0.5), (float("nan"), 1.0)])
def test_an_empty_box_is_refused(bounds, low, high):
    with pytest.raises(ConfigurationError, match="bounds need low < high"):
        bounds(low, high)


def test_active_components_push_outwards():
    iterate = torch.tensor([[[-1.0, -1.0, 0.0, 1.0, 1.0]]])
    gradient = torch.tensor([[[-1.0, 1.0, 1.0, -1.0, 1.0]]])
    assert Projection().active(iterate, gradient).flatten().tolist() == [True, False, False, False, True]
    assert not Unbounded().active(iterate, gradient).any()


def solve(bounds, actions):
    case = problems.quadratic(batch=1)
    layer = TrajOptLayer(LevenbergMarquardt(**cases.SETTINGS), Unroll(), bounds)
    solution = layer(case.objective, case.latent, actions)
    (gradient,) = torch.autograd.grad(solution.actions.sum(), case.parameters)
    return solution, case.optimum(case.latent), gradient


def test_outside_action_returns_with_projection_but_not_with_inner_clamp():
    outside = torch.full((1, 2, 3), 1.5, dtype=torch.float64)
    projected, optimum, gradient = solve(Projection(), outside)
    assert_close(projected.actions, optimum, rtol=1e-5, atol=1e-7)
    assert gradient.abs().max() > 0.1

    clamped, _, gradient = solve(InnerClamp(), outside)
    assert (clamped.actions == 1).all()
    assert (gradient == 0).all()


def test_gradient_of_an_action_on_its_bound_is_zero():
    case = problems.quadratic(batch=1)
    assert (case.optimum(case.latent).abs() > 0.006).all()
    layer = TrajOptLayer(LevenbergMarquardt(**cases.SETTINGS), Unroll(), Projection(-0.005, 0.005))
    solution = layer(case.objective, case.latent, case.actions)
    assert (solution.actions.abs() == 0.005).all()
    assert (solution.grad_norm == 0).all()
    (gradient,) = torch.autograd.grad(solution.actions.sum(), case.parameters)
    assert (gradient == 0).all()


def test_tanh_is_inverted_up_to_its_margin():
    bounds, actions = Tanh(-1.0, 3.0, margin=0.1), torch.tensor([[[-1.0, -0.5, 1.0, 2.5, 3.0]]])
    assert_close(bounds.to_actions(bounds.to_iterate(actions)).flatten().tolist(), [-0.8, -0.5, 1.0, 2.5, 2.8])
    with pytest.raises(ConfigurationError, match="margin must be between 0 and 1"):
        Tanh(margin=0.0)
