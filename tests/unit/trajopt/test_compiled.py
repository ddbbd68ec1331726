"""Compiled steps take the steps of eager ones, and are not compiled without end."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import ActionScore, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import Adam, LevenbergMarquardt, NewtonCG, Theseus
from tests import cases

pytestmark = [
    # The compiler's own modules warn about each other.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor"),
]


def make(seed: int = 0) -> tuple[nn.Module, ActionScore]:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        score = nn.Sequential(nn.Linear(5, 8), nn.ELU(), nn.Linear(8, 1, bias=False))
    return score, ActionScore(lambda z, a: score(torch.cat((z, a), dim=1)))


def problem(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(batch)
    return torch.randn(batch, 3, generator=generator), 0.1 * torch.randn(batch, 1, 2, generator=generator)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("solver", "mode"),
    [(LevenbergMarquardt(max_steps=6, damping=1.0), Truncated(2)), (Adam(max_steps=6), Detached())],
    ids=["LevenbergMarquardt-Truncated", "Adam-Detached"],
)
def test_equals_eager_for_changing_batches_with_few_compilations(solver, mode):
    score, objective = make()
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    for batch in (4, 3, 7, 2, 9):
        latent, actions = problem(batch)
        eager, compiled = (
            TrajOptLayer(solver, mode, Projection(), compiled=compiled)(objective, latent, actions)
            for compiled in (False, True)
        )
        assert_close(compiled.actions, eager.actions, rtol=1e-4, atol=1e-6)
        assert_close(compiled.best_value, eager.best_value, rtol=1e-4, atol=1e-6)
        if eager.actions.requires_grad:
            gradients = [torch.autograd.grad(each.actions.sum(), score.parameters()) for each in (compiled, eager)]
            assert_close(*gradients, rtol=1e-3, atol=1e-5)
    # One for the first size and one for all others, each with and without a gradient.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 4


@pytest.mark.slow
def test_works_inside_a_compiled_module():
    score, objective = make()

    class Policy(nn.Module):
        def __init__(self):
            super().__init__()
            self.score = score
            self.encoder = nn.Linear(3, 3)
            self.layer = TrajOptLayer(LevenbergMarquardt(max_steps=2, damping=1.0), Truncated(1))

        def forward(self, latent, actions):
            return self.layer(objective, self.encoder(latent), actions).actions

    policy = Policy()
    compiled = torch.compile(policy, backend="aot_eager")
    gradients = []
    for module in (policy, compiled):
        answer = module(*problem(4))
        gradients.append((answer, *torch.autograd.grad(answer.sum(), [*policy.encoder.parameters()])))
    assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("solver", [NewtonCG(), pytest.param(lambda: Theseus(), marks=cases.needs_theseus)])
def test_refuses_what_cannot_be_compiled(solver):
    with pytest.raises(ConfigurationError, match="cannot be compiled: set compiled to False"):
        TrajOptLayer(solver() if callable(solver) else solver, Detached(), compiled=True)
