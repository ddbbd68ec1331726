import pytest
import torch
from torch import nn
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt import ActionScore, Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Implicit, Truncated, Unroll
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import LevenbergMarquardt, SolverState, StepSolver
from tests import problems


@pytest.fixture
def layer():
    return TrajOptLayer(LevenbergMarquardt(max_steps=3), Truncated(2))


def test_prints_its_parts(layer):
    assert "solver=LevenbergMarquardt(max_steps=3, step_size=0.0001" in repr(layer)
    assert "backward_mode=Truncated(n_steps=2), bounds=Projection(low=-1.0, high=1.0), n_starts=1" in repr(layer)


def test_has_no_parameters(layer):
    assert not list(layer.parameters())
    assert not layer.state_dict()


@pytest.mark.parametrize("shape", [(4, 3), (4, 2, 3, 1, 1), (0, 2, 3), (4, 0, 3)])
def test_refuses_actions_of_the_wrong_shape(layer, shape):
    with pytest.raises(ShapeError, match=r"actions must be \(batch, horizon, action\)"):
        layer(problems.quadratic().objective, torch.zeros(4, 5), torch.zeros(shape))


def test_refuses_different_batch_sizes(layer):
    with pytest.raises(ShapeError, match=r"latent \(3, 5\) and actions \(4, 2, 3\)"):
        layer(problems.quadratic().objective, torch.zeros(3, 5), torch.zeros(4, 2, 3))


def test_refuses_integer_actions(layer):
    with pytest.raises(ConfigurationError, match=r"floating point.*int64"):
        layer(problems.quadratic().objective, torch.zeros(4, 5), torch.zeros(4, 2, 3, dtype=torch.int64))


@pytest.mark.parametrize(
    "bad", [lambda z, a: a.sum(), lambda z, a: a.sum(dim=2), lambda z, a: a.sum(dim=(1, 2))[:, None]]
)
def test_refuses_an_objective_of_the_wrong_shape(layer, bad):
    with pytest.raises(ShapeError, match=r"one value per batch element, shape \(4,\), got"):
        layer(bad, torch.zeros(4, 5), torch.zeros(4, 2, 3))


@pytest.mark.parametrize("constant", [lambda z, a: z.sum(dim=1), lambda z, a: a.detach().sum(dim=(1, 2))])
def test_refuses_an_objective_that_ignores_the_actions(layer, constant):
    with pytest.raises(ConfigurationError, match="does not depend on the actions"):
        layer(constant, torch.zeros(4, 5, requires_grad=True), torch.zeros(4, 2, 3))


class _Negate(StepSolver):
    """A solver without derivatives; each step negates the actions."""

    steps_differentiable = False
    reaches_maximum = False
    max_steps = 5

    def step(self, problem, latent, state):
        return SolverState(-state.iterate, problem.evaluate(latent, -state.iterate))

    def done(self, problem, state):
        return torch.zeros_like(state.evaluation.value, dtype=torch.bool)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (Unroll(), "its steps pass no gradient"),
        (Truncated(), "its steps pass no gradient"),
        (Implicit(), "it need not end at a maximum"),
    ],
)
def test_refuses_a_mode_that_the_solver_excludes(mode, reason):
    message = f"_Negate cannot be differentiated by {type(mode).__name__}: {reason}"
    with pytest.raises(ConfigurationError, match=message):
        TrajOptLayer(_Negate(), mode)


def test_best_of_equal_iterates_is_the_earliest():
    case = problems.quadratic()
    layer = TrajOptLayer(_Negate(), Detached(), Unbounded())
    solution = layer(lambda z, a: -a.square().sum(dim=(1, 2)), case.latent, case.actions)
    assert_close(solution.actions, -case.actions)
    assert_close(solution.best_actions, case.actions)


def test_best_iterate_is_kept_when_steps_overshoot():
    case = problems.quadratic()
    # The steps are far too long: the iterates diverge from the optimum.
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=5, step_size=1.0, offset=1e4), Detached(), Unbounded())
    solution = layer(case.objective, case.latent, case.actions)
    assert (solution.best_value > solution.value + 1).all()
    assert_close(solution.best_value, case.objective(case.latent, solution.best_actions).detach())


@pytest.mark.parametrize("mode", [Unroll(), Truncated(5), Detached()])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_solves_under_autocast(mode, dtype):
    generator = torch.Generator().manual_seed(0)
    score = nn.Sequential(nn.Linear(8, 32), nn.ELU(), nn.Linear(32, 1, bias=False))
    objective = ActionScore(lambda latent, action: score(torch.cat((latent, action), dim=1)))
    latent, actions = torch.randn(4, 5, generator=generator), torch.zeros(4, 1, 3)
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=10, damping=1.0), mode, Unbounded())
    expected = layer(objective, latent.to(dtype).float(), actions)
    with torch.autocast("cpu", torch.bfloat16):
        solution = layer(objective, latent.to(dtype), actions.to(dtype))
    assert solution.actions.dtype == torch.float32
    assert solution.status.tolist() == [Status.MAX_STEPS] * 4
    # bfloat16 has eight bits of precision, and the offset of 1000 amplifies the rounding: the solve needs float32.
    assert_close(solution.actions, expected.actions)
    if solution.actions.requires_grad:
        for actual, exact in zip(
            torch.autograd.grad(solution.actions.square().sum(), score.parameters()),
            torch.autograd.grad(expected.actions.square().sum(), score.parameters()),
            strict=True,
        ):
            assert actual.abs().max() > 0
            assert_close(actual, exact)


@pytest.mark.parametrize(("bad", "got"), [(1.0, "float"), ((torch.zeros(4), {}), "tuple"), (None, "NoneType")])
def test_refuses_an_objective_that_does_not_return_a_tensor(layer, bad, got):
    with pytest.raises(ConfigurationError, match=f"the objective's value must be a tensor, got {got}"):
        layer(lambda z, a: bad, torch.zeros(4, 5), torch.zeros(4, 2, 3))


def test_refuses_actions_that_are_not_a_tensor(layer):
    with pytest.raises(ConfigurationError, match=r"actions must be a tensor, got ndarray; pass torch.as_tensor"):
        layer(problems.quadratic().objective, torch.zeros(4, 5), torch.zeros(4, 2, 3).numpy())


@pytest.mark.parametrize("transform", [torch.vmap, torch.func.grad, torch.func.jacrev])
def test_refuses_torch_func_transforms(layer, transform):
    def solve(latent):
        return layer(lambda z, a: a.sum(dim=(1, 2)), latent.view(1, 5), torch.zeros(1, 2, 3)).actions.sum()

    with pytest.raises(ConfigurationError, match=r"cannot run inside torch.vmap or a transform of torch.func"):
        transform(solve)(torch.zeros(1, 5) if transform is torch.vmap else torch.zeros(5))


def test_hooks_run_once_under_autocast(layer):
    calls = []
    layer.register_forward_hook(lambda *arguments: calls.append(arguments))
    with torch.autocast("cpu", torch.bfloat16):
        layer(lambda z, a: a.sum(dim=(1, 2)), torch.zeros(4, 5), torch.zeros(4, 2, 3))
    assert len(calls) == 1
