import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Truncated, Unroll
from difftori_pl.trajopt.solvers import LevenbergMarquardt
from tests import cases, problems


@pytest.mark.parametrize("n_steps", [1, 5, 20])
def test_bias_on_a_quadratic_return_follows_from_the_contraction_rate(n_steps):
    # At the optimum each step multiplies errors by c = 1 − α · offset / λ; n steps pass the fraction 1 − cⁿ.
    solver = LevenbergMarquardt(max_steps=200, step_size=0.026, damping=1.0, offset=10.0)
    case = problems.quadratic()
    actions = TrajOptLayer(solver, Truncated(n_steps))(case.objective, case.latent, case.actions).actions
    (actual,) = torch.autograd.grad(actions.sum(), case.parameters)
    (exact,) = torch.autograd.grad(case.optimum(case.latent).sum(), case.parameters)
    assert_close(actual, (1 - 0.74**n_steps) * exact, rtol=1e-6, atol=1e-8)


def test_equals_unroll_if_it_covers_the_whole_solve():
    case = problems.network()
    case.actions.requires_grad_()
    gradients = []
    for mode in (Unroll(), Truncated(cases.N_STEPS), Truncated(10 * cases.N_STEPS)):
        actions = TrajOptLayer(LevenbergMarquardt(**cases.SETTINGS), mode)(
            case.objective, case.latent, case.actions
        ).actions
        gradients.append(torch.autograd.grad(actions.square().sum(), [case.actions, *case.parameters]))
    assert_close(gradients[1], gradients[0])
    assert_close(gradients[2], gradients[0])


def test_initial_actions_get_no_gradient():
    case = problems.network()
    case.actions.requires_grad_()
    actions = TrajOptLayer(LevenbergMarquardt(**cases.SETTINGS), Truncated(5))(
        case.objective, case.latent, case.actions
    ).actions
    (gradient,) = torch.autograd.grad(actions.sum(), case.actions, materialize_grads=True, allow_unused=True)
    assert (gradient == 0).all()


def test_refuses_zero_steps():
    with pytest.raises(ConfigurationError, match="n_steps must be above 0, got 0"):
        Truncated(n_steps=0)
