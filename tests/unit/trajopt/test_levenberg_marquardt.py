import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection, Unbounded
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers import LevenbergMarquardt
from tests import cases, problems


def test_step_solves_the_damped_normal_equations():
    case = problems.network()
    solver = LevenbergMarquardt(step_size=0.3, damping=0.2, offset=10.0)
    problem = Problem(case.objective, Unbounded())
    state = solver.init(problem, case.latent, case.actions)
    moved = solver.step(problem, case.latent, state).iterate - case.actions
    for element in range(4):
        residual = 10.0 - state.evaluation.value[element]
        jacobian = -state.evaluation.gradient[element].view(1, -1)
        normal = jacobian.T @ jacobian + 0.2 * torch.eye(6, dtype=torch.float64)
        expected = torch.linalg.solve(normal, -jacobian.T @ residual.view(1))
        assert_close(moved[element].flatten(), 0.3 * expected)


def test_defaults_are_the_published_settings():
    assert repr(LevenbergMarquardt()) == (
        "LevenbergMarquardt(max_steps=100, step_size=0.0001, damping=0.01, offset=1000.0, grad_tolerance=0.0)"
    )


@pytest.mark.parametrize("damping", [1e-8, 1e-4, 1.0, 1e3])
@pytest.mark.parametrize("norm", [0.0, 1e-12, 1e-6, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("mode", [Unroll(), Truncated(5)])
def test_float32_stays_finite_for_extreme_damping_and_gradients(damping, norm, mode):
    direction = torch.tensor([0.6, -0.8], requires_grad=True)

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        return norm * (latent * (actions * direction).sum(dim=2) + 0.1 * actions.square().sum(dim=2)).sum(dim=1)

    latent, actions = torch.ones(2, 1), torch.zeros(2, 1, 2)
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=20, damping=damping), mode, Projection(-1.0, 1.0))
    solution = layer(objective, latent, actions)
    (gradient,) = torch.autograd.grad(solution.actions.sum(), direction)
    assert solution.status.tolist() == [Status.MAX_STEPS] * 2
    for tensor in (solution.actions, solution.value, solution.best_value, solution.grad_norm, gradient):
        assert torch.isfinite(tensor).all()


@pytest.mark.parametrize("mode", [Detached(), Unroll()])
def test_element_below_the_tolerance_stops(mode):
    case = problems.quadratic()
    case.actions[2] = case.optimum(case.latent)[2].detach()
    solver = LevenbergMarquardt(**cases.SETTINGS, grad_tolerance=1e-3)
    solution = TrajOptLayer(solver, mode)(case.objective, case.latent, case.actions)
    assert solution.status.tolist() == [Status.CONVERGED] * 4
    assert solution.n_steps[2] == 0
    assert_close(solution.actions[2].detach(), case.actions[2])
    assert ((solution.n_steps[[0, 1, 3]] > 0) & (solution.n_steps[[0, 1, 3]] < cases.N_STEPS)).all()
    assert (solution.grad_norm < 1e-3).all()


def test_converged_elements_keep_their_truncated_gradient():
    case = problems.quadratic()
    gradients = []
    for tolerance in (0.0, 1e-3):
        solver = LevenbergMarquardt(**cases.SETTINGS, grad_tolerance=tolerance)
        actions = TrajOptLayer(solver, Truncated(5))(case.objective, case.latent, case.actions).actions
        gradients.append(torch.autograd.grad(actions.sum(), case.parameters)[0])
    assert_close(gradients[1], gradients[0], rtol=1e-2, atol=1e-4)


def test_zero_tolerance_never_stops_early():
    case = problems.quadratic()
    actions = case.optimum(case.latent).detach()
    solution = TrajOptLayer(LevenbergMarquardt(max_steps=7), Detached())(case.objective, case.latent, actions)
    assert solution.n_steps.tolist() == [7] * 4
    assert solution.status.tolist() == [Status.MAX_STEPS] * 4


@pytest.mark.parametrize(("mode", "expected"), [(Detached(), 11), (Unroll(), 11), (Truncated(3), 12)])
def test_objective_is_evaluated_once_per_iterate(mode, expected):
    case, calls = problems.quadratic(), []

    def counting(latent: Tensor, actions: Tensor) -> Tensor:
        calls.append(actions)
        return case.objective(latent, actions)

    TrajOptLayer(LevenbergMarquardt(max_steps=10), mode)(counting, case.latent, case.actions)
    assert len(calls) == expected  # Truncated evaluates the first iterate of its graph twice.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_steps": 0}, "max_steps must be above 0, got 0"),
        ({"step_size": -1.0}, "step_size must be above 0, got -1.0"),
        ({"damping": 0.0}, "damping must be above 0, got 0.0"),
        ({"grad_tolerance": -1e-3}, "grad_tolerance must be 0"),
    ],
)
def test_refuses_bad_settings(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        LevenbergMarquardt(**arguments)


@pytest.mark.parametrize("settings", [{"damping": 0.01}, {"damping": 2.0, "max_steps": 3, "offset": 50.0}])
def test_no_score_moves_an_action_beyond_the_reach(settings):
    solver = LevenbergMarquardt(reach=0.5, **settings)
    assert solver.reach == pytest.approx(0.5)
    longest = 0.0
    for slope in torch.logspace(-4, 4, 33, dtype=torch.float64):
        layer = TrajOptLayer(solver, Detached(), Unbounded())
        start = torch.zeros(1, 1, 1, dtype=torch.float64)
        # The score stays near 0, where the residual is the offset.
        moved = layer(lambda latent, a, slope=slope: slope * (a - a.detach()).sum((1, 2)), torch.zeros(1, 1), start)
        longest = max(longest, float(moved.actions.abs()))
    assert 0.48 < longest <= 0.5 + 1e-9


def test_the_reach_determines_the_step_size():
    assert LevenbergMarquardt(max_steps=5, step_size=2e-4).reach == pytest.approx(5.0)
    assert LevenbergMarquardt(max_steps=5, step_size=2e-4, reach=0.5).step_size == pytest.approx(2e-5)
    with pytest.raises(ConfigurationError, match=r"reach must be above 0, got 0\.0"):
        LevenbergMarquardt(reach=0.0)
