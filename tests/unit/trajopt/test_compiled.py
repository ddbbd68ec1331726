"""Compiled steps: same results as eager steps, no graph breaks, a bounded number of compilations."""

from shutil import which

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import ActionScore, TrajOptLayer, compilation
from difftori_pl.trajopt.backward import Detached, Implicit, Truncated
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, LevenbergMarquardt, NewtonCG, Theseus
from tests import cases, problems


@pytest.fixture
def counter(monkeypatch):
    """Compile with the eager backend and count the compilations."""
    counting = CompileCounterWithBackend("eager")
    monkeypatch.setattr(compilation, "BACKEND", counting)
    compilation.compiled.cache_clear()
    yield counting
    compilation.compiled.cache_clear()


@pytest.mark.parametrize(
    ("solver", "mode"),
    [
        (LevenbergMarquardt(**cases.SETTINGS), Truncated(5)),
        (Adam(max_steps=25), Truncated(5)),
        (LBFGS(max_steps=25, memory=3), Implicit()),
    ],
    ids=repr,
)
def test_steps_and_gradient_equal_eager_ones(solver, mode, counter):
    case, answers = problems.network(), []
    actions = case.actions.clone()
    actions[2] = torch.nan
    for compiled in (False, True):
        layer = TrajOptLayer(solver, mode, compiled=compiled)
        latent = case.latent.clone().requires_grad_()
        answers.append(layer(case.objective, latent, actions))
        if answers[-1].actions.requires_grad:
            answers.append(torch.autograd.grad(answers[-1].actions.square().sum(), [latent, *case.parameters]))
    assert counter.frame_count > 0
    half = len(answers) // 2
    for name in vars(answers[0]):
        assert_close(getattr(answers[half], name), getattr(answers[0], name), rtol=1e-9, atol=1e-11, equal_nan=True)
    assert_close(answers[half + 1 :], answers[1:half], rtol=1e-9, atol=1e-11)


def test_number_of_compilations_is_bounded(counter):
    layer, weight = TrajOptLayer(LevenbergMarquardt(max_steps=2), Detached(), compiled=True), torch.ones(3)

    def solve(batch, horizon):
        # A new objective for each solve, as in the modules.
        objective = ActionScore(lambda z, a: ((z - a).square() * weight).sum(dim=1), lambda z, a: z + a)
        layer(objective, torch.ones(batch, 3), torch.zeros(batch, horizon, 3))

    counts = []
    for batch in (4, 4, 1, 6, 64, 1, 33):
        solve(batch, 2)
        counts.append(counter.frame_count)
    assert counts[1] == 1, "one compilation for repeated sizes"
    assert counts[-1] == counts[3] == 3, "two more, for a single element and for any number of elements"
    with torch._dynamo.config.patch(recompile_limit=3):
        for horizon in (1, 3, 4):
            solve(4, horizon)
    assert counter.frame_count - counts[-1] == 3, "each horizon has its own recompile limit"


@pytest.mark.slow
@pytest.mark.skipif(which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_runs_with_the_default_backend():
    case = problems.quadratic()
    solver = LevenbergMarquardt(**cases.SETTINGS)
    actual = TrajOptLayer(solver, Truncated(5), compiled=True)(case.objective, case.latent, case.actions)
    expected = TrajOptLayer(solver, Truncated(5))(case.objective, case.latent, case.actions)
    gradients = [torch.autograd.grad(each.actions.sum(), case.parameters) for each in (actual, expected)]
    assert_close(actual.actions, expected.actions, rtol=1e-9, atol=1e-11)
    assert_close(*gradients, rtol=1e-9, atol=1e-11)


def test_message_for_an_objective_that_cannot_be_compiled(counter):
    def objective(latent, actions):
        return -actions.square().sum(dim=(1, 2)) * (1.0 if actions.sum().item() > 0 else 2.0)

    layer = TrajOptLayer(Adam(max_steps=2), Detached(), compiled=True)
    with pytest.raises(ConfigurationError, match="could not compile a step of the solver on this objective: set comp"):
        layer(objective, torch.zeros(2, 1), torch.ones(2, 1, 1))


@pytest.mark.parametrize("solver", [NewtonCG, MPPI, pytest.param(Theseus, marks=cases.needs_theseus)])
def test_refuses_solvers_that_cannot_be_compiled(solver):
    with pytest.raises(ConfigurationError, match="cannot be compiled: set compiled to False"):
        TrajOptLayer(solver(), Detached(), compiled=True)


class _Policy(nn.Module):
    """An encoder and a layer that maximises a score of its latent."""

    def __init__(self, compiled):
        super().__init__()
        self.encoder = nn.Linear(4, 5)
        self.score = nn.Sequential(nn.Linear(8, 8), nn.ELU(), nn.Linear(8, 1, bias=False))
        self.layer = TrajOptLayer(Adam(max_steps=4), Truncated(2), compiled=compiled)

    def forward(self, obs):
        latent = self.encoder(obs).tanh()
        objective = ActionScore(lambda z, a: self.score(torch.cat((z, a), dim=1)))
        return 2 * self.layer(objective, latent, torch.zeros(len(obs), 1, 3)).actions


# Dynamo reads `.grad` of a non-leaf tensor when it resumes after the layer.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")
@pytest.mark.parametrize("compiled", [False, True])
def test_works_inside_a_compiled_module(compiled, counter):
    torch.manual_seed(0)
    policy, obs = _Policy(compiled), torch.randn(3, 4)
    compiled_policy = torch.compile(policy, backend="eager")
    expected = policy(obs)
    gradients = [
        torch.autograd.grad(actions.square().sum(), list(policy.parameters()))
        for actions in (compiled_policy(obs), expected)
    ]
    assert_close(compiled_policy(obs), expected)
    assert_close(*gradients)
    assert all(gradient.abs().max() > 0 for gradient in gradients[0])
