import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Unroll
from difftori_pl.trajopt.bounds import Projection, Unbounded
from difftori_pl.trajopt.solvers import Adam
from tests import problems


def test_takes_the_steps_of_torch():
    case, rate = problems.network(), 0.05
    solver = Adam(max_steps=30, learning_rate=rate, final_learning_rate=rate, epsilon=1e-12)
    solution = TrajOptLayer(solver, Detached(), Unbounded())(case.objective, case.latent, case.actions)

    actions = case.actions.clone().requires_grad_()
    optimiser = torch.optim.Adam([actions], lr=rate, eps=1e-12, maximize=True)
    for _ in range(30):
        optimiser.zero_grad()
        case.objective(case.latent, actions).sum().backward()
        optimiser.step()
    assert_close(solution.actions, actions.detach(), rtol=1e-7, atol=1e-9)


def test_learning_rate_decays_linearly():
    latent, actions = torch.ones(1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)
    solver = Adam(max_steps=4, learning_rate=0.4, final_learning_rate=0.2)
    solution = TrajOptLayer(solver, Detached())(lambda z, a: a.sum(dim=(1, 2)), latent, actions)
    # With a constant gradient, each step has the length of the learning rate.
    assert_close(solution.actions.item(), min(1.0, 0.4 + 0.35 + 0.3 + 0.25))
    solution = TrajOptLayer(solver, Detached(), Projection(-2, 2))(lambda z, a: a.sum(dim=(1, 2)), latent, actions)
    assert_close(solution.actions.item(), 0.4 + 0.35 + 0.3 + 0.25)


def test_scale_of_the_objective_does_not_matter():
    case = problems.network()
    layer = TrajOptLayer(Adam(max_steps=10), Detached())
    expected = layer(case.objective, case.latent, case.actions).actions
    for scale in (1e-3, 1e6):
        scaled = layer(lambda z, a, scale=scale: scale * case.objective(z, a), case.latent, case.actions)
        assert_close(scaled.actions, expected, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e8])
def test_float32_gradients_of_any_size(scale):
    weight = torch.tensor([0.6, 0.0], requires_grad=True)
    solution = TrajOptLayer(Adam(max_steps=5), Unroll(), Unbounded())(
        lambda z, a: scale * (a * weight).sum(dim=(1, 2)), torch.ones(2, 1), torch.zeros(2, 1, 2)
    )
    assert solution.status.tolist() == [Status.MAX_STEPS] * 2
    (gradient,) = torch.autograd.grad(solution.actions.sum(), weight)
    assert torch.isfinite(solution.actions).all()
    assert torch.isfinite(gradient).all()


def test_stops_at_the_tolerance():
    case = problems.quadratic()
    actions = case.actions.clone()
    actions[1] = case.optimum(case.latent)[1].detach()
    solution = TrajOptLayer(Adam(max_steps=3, grad_tolerance=1e-6), Detached())(case.objective, case.latent, actions)
    assert solution.status.tolist() == [0, Status.CONVERGED, 0, 0]
    assert solution.n_steps.tolist() == [3, 0, 3, 3]
    assert_close(solution.actions[1], actions[1])


@pytest.mark.parametrize(
    "bad",
    [
        {"max_steps": 0},
        {"learning_rate": 0.0},
        {"final_learning_rate": -0.1},
        {"beta_1": 1.0},
        {"beta_2": -0.1},
        {"epsilon": 0.0},
        {"grad_tolerance": -1.0},
    ],
)
def test_refuses_bad_settings(bad):
    with pytest.raises(ConfigurationError, match=next(iter(bad))):
        Adam(**bad)
