"""The closed form takes the steps of the published solver (models like TD-MPC's, published settings, float64)."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from difftori_pl.trajopt import ActionScore, Objective, RolloutReturn, TrajOptLayer
from difftori_pl.trajopt.backward import BackwardMode, Truncated, Unroll
from difftori_pl.trajopt.bounds import Bounds, InnerClamp, Projection, Unbounded
from difftori_pl.trajopt.solvers import LevenbergMarquardt, Theseus
from tests import cases, problems

pytestmark = cases.needs_theseus

LATENT_DIM, ACTION_DIM, HORIZON, WIDTH = 50, 6, 5, 64


class Models(nn.Module):
    """Reward, dynamics, twin value and policy with the sizes of the model-based experiments, but narrower layers."""

    def __init__(self) -> None:
        super().__init__()
        self.reward = _mlp(LATENT_DIM + ACTION_DIM, 1)
        self.dynamics = _mlp(LATENT_DIM + ACTION_DIM, LATENT_DIM)
        self.value_1 = _mlp(LATENT_DIM + ACTION_DIM, 1)
        self.value_2 = _mlp(LATENT_DIM + ACTION_DIM, 1)
        self.policy = _mlp(LATENT_DIM, ACTION_DIM)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in self.parameters():
                # With twice the usual gain, 100 steps do not move every action to its bound.
                bound = 2 * parameter.shape[-1] ** -0.5
                parameter.copy_(
                    2 * bound * (torch.rand(parameter.shape, generator=generator, dtype=torch.float64) - 0.5)
                )

    def rollout_return(self) -> Objective:
        def value(latent: Tensor, action: Tensor) -> Tensor:
            joint = torch.cat((latent, action), dim=1)
            return torch.minimum(self.value_1(joint), self.value_2(joint))

        return RolloutReturn(
            reward=lambda z, a: self.reward(torch.cat((z, a), dim=1)),
            dynamics=lambda z, a: self.dynamics(torch.cat((z, a), dim=1)),
            terminal_value=value,
            policy=lambda z: self.policy(z).tanh(),
        )

    def action_score(self) -> Objective:
        return ActionScore(lambda z, a: self.reward(torch.cat((z, a), dim=1)))


@pytest.mark.parametrize("mode", [Truncated(n_steps=5), Unroll()], ids=repr)
@pytest.mark.parametrize("batch", [1, 8])
@pytest.mark.parametrize("bounds", [InnerClamp(), Unbounded()], ids=repr)
def test_rollout_return(mode: BackwardMode, batch: int, bounds: Bounds) -> None:
    _check_parity(Models(), Models.rollout_return, HORIZON, mode, batch, bounds)


@pytest.mark.parametrize("mode", [Truncated(n_steps=5), Unroll()], ids=repr)
@pytest.mark.parametrize("bounds", [InnerClamp(), Projection()], ids=repr)
def test_action_score(mode: BackwardMode, bounds: Bounds) -> None:
    _check_parity(Models(), Models.action_score, 1, mode, 8, bounds)


def _check_parity(models, make_objective, horizon, mode, batch, bounds) -> None:
    generator = torch.Generator().manual_seed(batch)
    latent = torch.randn(batch, LATENT_DIM, dtype=torch.float64, generator=generator).requires_grad_()
    actions = 0.3 * problems.uniform(batch, horizon, ACTION_DIM, generator=generator)
    weight = torch.randn(actions.shape, dtype=torch.float64, generator=generator)
    inputs = [latent, *models.parameters()]

    solutions, gradients = [], []
    for solver in (LevenbergMarquardt(max_steps=100), Theseus(max_steps=100)):
        solution = TrajOptLayer(solver, mode, bounds)(make_objective(models), latent, actions)
        solutions.append(solution)
        gradients.append(
            torch.autograd.grad((weight * solution.actions).sum(), inputs, allow_unused=True, materialize_grads=True)
        )
    ours, theirs = solutions
    assert (ours.actions - actions).abs().max() > 0.05, "the case must move the actions"
    assert (ours.actions.abs() < 1).any(), "the case must leave some actions inside the bounds"
    assert_close(ours.actions, theirs.actions, rtol=0, atol=1e-8)
    assert_close(ours.value, theirs.value, rtol=0, atol=1e-8)
    assert_close(ours.best_value, theirs.best_value, rtol=0, atol=1e-8)
    for actual, expected in zip(*gradients, strict=True):
        assert (actual - expected).norm() <= 1e-6 * expected.norm()
    assert gradients[0][0].norm() > 1e-6


def _mlp(n_in: int, n_out: int) -> nn.Module:
    layers = nn.Linear(n_in, WIDTH), nn.ELU(), nn.Linear(WIDTH, WIDTH), nn.ELU(), nn.Linear(WIDTH, n_out)
    return nn.Sequential(*layers).double()
