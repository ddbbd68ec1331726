"""NaN or infinity in one batch element fails that element and leaves the others unchanged."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.trajopt import Objective, Solution, Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated, Unroll
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import Adam, GaussNewton, LevenbergMarquardt
from tests import cases, problems

every_pair = pytest.mark.parametrize(("solver", "mode"), cases.pairs())
every_following_pair = pytest.mark.parametrize(("solver", "mode"), cases.pairs(cases.FOLLOWING))
every_differentiated_pair = pytest.mark.parametrize(
    ("solver", "mode"),
    [
        pytest.param(solver, mode, id=f"{solver().__class__.__name__}-{mode().__class__.__name__}")
        for solver in (
            lambda: LevenbergMarquardt(**{**cases.SETTINGS, "step_size": 0.3}),
            lambda: Adam(max_steps=5, learning_rate=0.4),
            lambda: GaussNewton(max_steps=5, damping=1e-3, offset=10.0, adaptive=False),
        )
        for mode in (Unroll, lambda: Truncated(2))
    ],
)
every_mode = pytest.mark.parametrize(("solver", "mode"), cases.pairs({LevenbergMarquardt: LevenbergMarquardt}))
every_non_finite_value = pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
BAD, HEALTHY = 1, [0, 2, 3]


@every_pair
@every_non_finite_value
def test_non_finite_initial_actions(solver, mode, value):
    case = problems.network()
    case.actions[BAD, 1, 2] = value
    solution = _check_isolation(TrajOptLayer(solver(), mode()), case, case.objective)
    expected = case.actions[BAD].detach().clone()
    expected[1, 2] = 0
    assert_close(solution.actions[BAD].detach(), expected)
    assert solution.n_steps[BAD] == 0


@every_pair
@every_non_finite_value
def test_non_finite_latent(solver, mode, value):
    case = problems.network()
    case.latent[BAD, 0] = value
    solution = _check_isolation(TrajOptLayer(solver(), mode()), case, case.objective)
    assert_close(solution.actions[BAD].detach(), case.actions[BAD].detach())
    assert solution.n_steps[BAD] == 0


@every_following_pair
@pytest.mark.parametrize("n_good", [0, 1, cases.N_STEPS - 5, cases.N_STEPS - 3, cases.N_STEPS - 1])
def test_objective_that_becomes_nan_after_some_steps(solver, mode, n_good):
    case, wall = _case_with_wall(n_good)
    solution = _check_isolation(TrajOptLayer(solver(), mode(), Unbounded()), case, wall)
    if isinstance(solver(), LevenbergMarquardt):
        assert solution.n_steps[BAD] == n_good
        assert_close(solution.actions[BAD].detach(), _iterate(case, n_good)[BAD].detach(), rtol=1e-10, atol=1e-12)


@every_following_pair
def test_several_elements_fail_at_different_steps(solver, mode):
    case, wall = _case_with_wall(3, cases.N_STEPS - 2)
    case.actions[3] = torch.nan
    _check_isolation(TrajOptLayer(solver(), mode(), Unbounded()), case, wall, healthy=[0])


@every_following_pair
@pytest.mark.parametrize("where", ["latent", "actions", "objective"])
def test_batch_in_which_all_elements_fail(solver, mode, where):
    case, wall = _case_with_wall(2, 2, 2, 2)
    if where != "objective":
        getattr(case, where).fill_(torch.nan)
    latent = case.latent.requires_grad_()
    solution = TrajOptLayer(solver(), mode(), Unbounded())(wall, latent, case.actions)
    assert solution.status.tolist() == [Status.FAILED] * 4
    assert torch.isfinite(solution.actions).all()
    if not isinstance(mode(), Detached):
        solution.actions.square().sum().backward()
    for tensor in (latent, *case.parameters):
        assert tensor.grad is None or (tensor.grad == 0).all()


@every_mode
def test_infinite_gradient_fails_the_element(solver, mode):
    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        # The square root has an infinite slope at zero, where the value itself is finite.
        return (latent * actions[:, :, 0].abs().sqrt()).sum(dim=1)

    actions = torch.tensor([0.3, 0.0, 0.5], dtype=torch.float64).view(3, 1, 1)
    latent = torch.ones(3, 1, dtype=torch.float64, requires_grad=True)
    solution = TrajOptLayer(solver(max_steps=10), mode(), Unbounded())(objective, latent, actions)
    assert solution.status.tolist() == [Status.MAX_STEPS, Status.FAILED, Status.MAX_STEPS]
    if solution.actions.requires_grad:
        (gradient,) = torch.autograd.grad(solution.actions.sum(), latent)
        assert torch.isfinite(gradient).all()
        assert gradient.squeeze(1).ne(0).tolist() == [True, False, True]


@every_differentiated_pair
def test_discarded_step_leaves_the_gradient_finite(solver, mode):
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        # NaN above 0.6, where a step from the start would end.
        action = weight * actions[:, 0, 0]
        return -0.5 * (action - 0.5).square() + 0.0 * (0.6 - action).sqrt()

    solver = solver()
    solver.grad_tolerance = 0.2
    actions = torch.tensor([0.35], dtype=torch.float64).view(1, 1, 1)
    solution = TrajOptLayer(solver, mode(), Unbounded())(objective, torch.zeros(1, 1), actions)
    assert solution.status.tolist() == [Status.CONVERGED]
    assert solution.n_steps.tolist() == [0]
    (gradient,) = torch.autograd.grad(solution.value.sum(), weight)
    assert_close(gradient.item(), 0.35 * 0.15)


def _check_isolation(
    layer: TrajOptLayer, case: problems.Case, objective: Objective, healthy: list[int] = HEALTHY
) -> Solution:
    solution, gradients = _solve(layer, case, objective, case.latent, case.actions)
    expected, expected_gradients = _solve(layer, case, objective, case.latent[healthy], case.actions[healthy])

    failed = [element not in healthy for element in range(len(case.actions))]
    assert (solution.status == Status.FAILED).tolist() == failed
    assert (expected.status != Status.FAILED).all()
    assert torch.isfinite(solution.actions).all()
    assert torch.isfinite(solution.best_actions).all()
    for name in set(vars(solution)) - {"trace"}:
        # Near an optimum the differences between values are rounding errors, so the best iterate may differ.
        tolerance = {"rtol": 1e-6, "atol": 1e-6} if name == "best_actions" else {"rtol": 1e-10, "atol": 1e-12}
        assert_close(
            getattr(solution, name)[healthy].detach(), getattr(expected, name).detach(), equal_nan=True, **tolerance
        )

    assert len(gradients) == len(expected_gradients)
    if gradients:
        latent, actions, *parameters = gradients
        expected_latent, expected_actions, *expected_parameters = expected_gradients
        assert_close(parameters, expected_parameters, rtol=1e-10, atol=1e-12)
        assert any(parameter.abs().max() > 1e-6 for parameter in parameters)
        for gradient, expected_gradient in ((latent, expected_latent), (actions, expected_actions)):
            assert_close(gradient[healthy], expected_gradient, rtol=1e-10, atol=1e-12)
            assert (gradient[failed] == 0).all()
    return solution


def _solve(
    layer: TrajOptLayer, case: problems.Case, objective: Objective, latent: Tensor, actions: Tensor
) -> tuple[Solution, list[Tensor]]:
    latent, actions = latent.detach().requires_grad_(), actions.detach().requires_grad_()
    solution = layer(objective, latent, actions)
    if not solution.actions.requires_grad:
        return solution, []
    # Squared, so that NaN in the actions would reach the gradients.
    loss = solution.actions.square().sum()
    return solution, list(
        torch.autograd.grad(loss, [latent, actions, *case.parameters], allow_unused=True, materialize_grads=True)
    )


def _iterate(case: problems.Case, n_steps: int) -> Tensor:
    if n_steps == 0:
        return case.actions
    solver = LevenbergMarquardt(**{**cases.SETTINGS, "max_steps": n_steps})
    return TrajOptLayer(solver, Unroll(), Unbounded())(case.objective, case.latent, case.actions).actions


def _case_with_wall(*n_good: int) -> tuple[problems.Case, Objective]:
    """Return a case, and its objective with NaN for some elements after `n_good` steps.

    `n_good` has one entry per affected element, starting at element `BAD`, or at 0 if all elements are affected.
    The first action component increases with each step, and the objective is NaN above a threshold (the wall) between
    two of its values. NaN enters at the actions and would therefore reach the parameters' gradients.
    """
    plain = problems.quadratic()
    first = 0 if len(n_good) == len(plain.actions) else BAD
    walls = torch.full((len(plain.actions), 1), 1e6, dtype=torch.float64)
    # The last latent feature is the wall. The first action starts below its optimum and increases monotonically.
    latent = torch.cat((plain.latent, walls), dim=1)
    actions = plain.actions.clone()
    actions[:, 0, 0] = plain.optimum(plain.latent)[:, 0, 0].detach() - 0.5
    matrix = plain.parameters[0]

    def without_wall(latent: Tensor, actions: Tensor) -> Tensor:
        return plain.objective(latent[:, :-1], actions)

    def with_wall(latent: Tensor, actions: Tensor) -> Tensor:
        room = latent[:, -1] - actions[:, 0, 0]
        return without_wall(latent, actions + 0.0 * room.sqrt().view(-1, 1, 1))

    case = problems.Case(without_wall, [matrix], latent, actions)
    for element, count in enumerate(n_good, start=first):
        before = _iterate(case, count - 1)[element, 0, 0].detach() if count else actions[element, 0, 0] - 1
        here = _iterate(case, count)[element, 0, 0].detach()
        after = _iterate(case, count + 1)[element, 0, 0].detach()
        assert before < here < after
        latent[element, -1] = (before + here) / 2 if count == 0 else (here + after) / 2
    return case, with_wall
