import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Objective, Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated, Unroll
from difftori_pl.trajopt.solvers import MPPI
from tests import problems

SMALL = {"max_steps": 3, "n_samples": 40, "n_elites": 10}


def published(objective: Objective, latent: Tensor, start: Tensor, proposals: Tensor, solver: MPPI) -> Tensor:
    """Return the last mean of TD-MPC's planner for one state, following Algorithm 1 and the released settings."""
    generator = torch.Generator().manual_seed(solver.seed)
    mean, std = start, torch.full_like(start, solver.max_std)
    for _ in range(solver.max_steps):
        noise = torch.randn(solver.n_samples, *start.shape, generator=generator)
        samples = torch.cat(((mean + std * noise).clamp(-1, 1), proposals))
        values = torch.stack([objective(latent[None], sample[None])[0] for sample in samples])
        order = sorted(range(len(values)), key=lambda i: -values[i].item())[: solver.n_elites]
        score = torch.exp(solver.temperature * (values[order] - values.max()))
        score = (score / score.sum()).view(-1, 1, 1)
        new_mean = (score * samples[order]).sum(0)
        std = (score * (samples[order] - new_mean) ** 2).sum(0).sqrt().clamp(solver.min_std, solver.max_std)
        mean = solver.momentum * mean + (1 - solver.momentum) * new_mean
    return mean


@pytest.mark.parametrize("n_proposals", [0, 3])
def test_plans_as_published(n_proposals):
    case, solver = problems.network(batch=2), MPPI(**SMALL, seed=3)
    proposals = problems.uniform(2, n_proposals, *case.actions.shape[1:], generator=torch.Generator().manual_seed(0))
    starts = torch.cat((case.actions.unsqueeze(1), proposals), dim=1)
    solution = TrajOptLayer(solver, Detached())(case.objective, case.latent, starts)
    for b in range(2):
        expected = published(case.objective, case.latent[b], case.actions[b], proposals[b], solver)
        assert_close(solution.actions[b], expected.detach())


def test_is_reproducible_with_its_own_seed_or_that_of_torch():
    case = problems.network()

    def solve(seed: int | None) -> Tensor:
        layer = TrajOptLayer(MPPI(**SMALL, seed=seed), Detached())
        return layer(case.objective, case.latent, case.actions).actions

    assert torch.equal(solve(1), solve(1))
    assert not torch.equal(solve(1), solve(2))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first, second = solve(None), solve(None)
        torch.manual_seed(0)
        assert torch.equal(solve(None), first)
    assert not torch.equal(first, second)


def test_finds_the_optimum_and_returns_the_best_sample():
    case = problems.quadratic()
    layer = TrajOptLayer(MPPI(max_steps=15, min_std=1e-3, temperature=2.0, seed=0), Detached())
    solution = layer(case.objective, case.latent, case.actions)
    # A sampler reaches the optimum only approximately.
    assert_close(solution.actions, case.optimum(case.latent).detach(), rtol=0, atol=0.01)
    assert (solution.best_value >= solution.value).all()
    assert_close(solution.best_value, case.objective(case.latent, solution.best_actions).detach())
    assert torch.isnan(solution.grad_norm).all()


def test_proposals_are_evaluated_in_every_round():
    # The proposal lies on a peak that is too narrow for random samples to hit.
    peak = torch.full((1, 2, 3), 0.5, dtype=torch.float64)
    starts = torch.stack((torch.zeros_like(peak), peak), dim=1)
    layer = TrajOptLayer(MPPI(**SMALL, seed=0), Detached())
    solution = layer(lambda z, a: 50 * torch.exp(-1e4 * (a - 0.5).square().sum(dim=(1, 2))), peak[:, 0], starts)
    assert_close(solution.best_actions, peak)
    assert_close(solution.actions, peak, rtol=0, atol=0.01)


def test_avoids_actions_with_nan():
    def half_defined(latent: Tensor, actions: Tensor) -> Tensor:
        return -(0.5 - actions).sqrt().sum(dim=(1, 2))

    latent, starts = torch.zeros(2, 1, dtype=torch.float64), torch.zeros(2, 3, 1, 1, dtype=torch.float64)
    starts[:, 1] = torch.nan
    solution = TrajOptLayer(MPPI(**SMALL, seed=0), Detached())(half_defined, latent, starts)
    assert solution.status.tolist() == [Status.MAX_STEPS] * 2
    assert torch.isfinite(solution.best_value).all()
    assert (solution.best_actions > 0.4).all()


def test_element_with_nan_everywhere_fails_alone():
    case = problems.network()
    latent = torch.cat((case.latent, torch.zeros(4, 1, dtype=torch.float64)), dim=1)
    latent[2, -1] = 1

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        return case.objective(latent[:, :-1], actions) / (1 - latent[:, -1]) * (1 - latent[:, -1])

    layer = TrajOptLayer(MPPI(**SMALL, seed=0), Detached())
    solution = layer(objective, latent, case.actions)
    assert (solution.status == Status.FAILED).tolist() == [False, False, True, False]
    healthy = [0, 1, 3]
    assert_close(solution.actions[healthy], layer(objective, latent[healthy], case.actions[healthy]).actions)


@pytest.mark.parametrize("mode", [Truncated(), Unroll()])
def test_cannot_be_differentiated(mode):
    with pytest.raises(ConfigurationError, match="MPPI cannot be differentiated by"):
        TrajOptLayer(MPPI(), mode)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"max_steps": 0}, "max_steps must be above 0"),
        ({"n_samples": 10}, "n_samples must be at least n_elites, got 10 and 64"),
        ({"temperature": 0.0}, "temperature"),
        ({"momentum": 1.0}, "momentum"),
        ({"min_std": 0.0}, "min_std"),
        ({"max_std": 0.01}, "max_std must be at least min_std"),
    ],
)
def test_refuses_bad_settings(bad, message):
    with pytest.raises(ConfigurationError, match=message):
        MPPI(**bad)
