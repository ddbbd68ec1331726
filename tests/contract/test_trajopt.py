"""Properties shared by every pair of solver and backward mode."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.trajopt import Solution, Status, TrajOptLayer
from difftori_pl.trajopt.backward import BackwardMode, Detached, DirectLoss, Implicit, Truncated, Unroll
from difftori_pl.trajopt.bounds import Bounds, Projection, Unbounded
from difftori_pl.trajopt.solvers import LBFGS, Adam, LevenbergMarquardt, NewtonCG, Solver
from tests import cases, problems

every_pair = pytest.mark.parametrize(("solver", "mode"), cases.pairs())
every_solver = pytest.mark.parametrize("solver", cases.params(cases.SOLVERS))
every_converging_solver = pytest.mark.parametrize("solver", cases.params(cases.CONVERGING))
# Adam is excluded: its last steps are its shortest and carry little of the gradient.
every_contracting_solver = pytest.mark.parametrize(
    "solver", cases.params({part: build for part, build in cases.CONVERGING.items() if part is not Adam}, Unroll)
)
every_exact_pair = pytest.mark.parametrize(("solver", "mode"), cases.pairs(cases.CONVERGING, cases.EXACT))
every_unrolled_solver = pytest.mark.parametrize("solver", cases.params(cases.SOLVERS, Unroll))
every_case = pytest.mark.parametrize("case", problems.CASES)


@pytest.mark.parametrize(
    ("base", "listed"), [(Solver, cases.SOLVERS), (BackwardMode, cases.MODES), (Bounds, cases.BOUNDS)]
)
def test_every_concrete_class_is_listed(base, listed):
    assert cases.concrete_subclasses(base) == set(listed)


@every_pair
@every_case
def test_solution_has_the_documented_shapes(solver, mode, case):
    case = case()
    solution = TrajOptLayer(solver(), mode())(case.objective, case.latent, case.actions)
    batch = case.actions.shape[0]
    assert solution.actions.shape == solution.best_actions.shape == case.actions.shape
    for field in ("value", "best_value", "grad_norm"):
        assert getattr(solution, field).shape == (batch,)
        assert getattr(solution, field).dtype == torch.float64
    assert solution.status.tolist() == [Status.MAX_STEPS] * batch
    assert solution.n_steps.tolist() == [cases.N_STEPS] * batch
    assert solution.actions.requires_grad is solution.value.requires_grad is not isinstance(mode(), Detached)
    assert not solution.best_actions.requires_grad
    assert not solution.best_value.requires_grad
    assert_close(solution.value, case.objective(case.latent, solution.actions))
    assert_close(solution.best_value, case.objective(case.latent, solution.best_actions).detach())
    # Theseus compares squared residuals, whose rounding error near the offset exceeds smaller differences.
    assert (solution.best_value >= solution.value - 1e-12).all()
    assert (solution.value > case.objective(case.latent, case.actions)).all()


@every_converging_solver
@pytest.mark.parametrize("case", [problems.quadratic, problems.linear_dynamics])
def test_reaches_the_closed_form_optimum(solver, case):
    case = case()
    optimum = case.optimum(case.latent)
    assert optimum.abs().max() < 0.95, "the optimum must be away from the bounds"
    solution = TrajOptLayer(solver(), Detached())(case.objective, case.latent, case.actions)
    assert_close(solution.actions, optimum.detach(), rtol=1e-6, atol=1e-8)
    assert solution.grad_norm.max() < 1e-8


@every_exact_pair
@pytest.mark.parametrize("case", [problems.quadratic, problems.linear_dynamics])
def test_exact_gradient_equals_that_of_the_closed_form(solver, mode, case):
    case = case()
    solution = TrajOptLayer(solver(), mode())(case.objective, case.latent.requires_grad_(), case.actions)
    assert_close(solution.actions, case.optimum(case.latent), rtol=1e-6, atol=1e-8)
    weight = torch.randn(case.actions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs = [case.latent, *case.parameters]
    actual = torch.autograd.grad((weight * solution.actions).sum(), inputs)
    expected = torch.autograd.grad((weight * case.optimum(case.latent)).sum(), inputs)
    assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@every_case
def test_exact_modes_agree_at_convergence(case):
    case = case()
    layers = [
        TrajOptLayer(LevenbergMarquardt(**{**cases.SETTINGS, "max_steps": 60}), Unroll()),
        TrajOptLayer(NewtonCG(), Implicit(cg_tolerance=1e-12)),
        TrajOptLayer(LBFGS(), DirectLoss(epsilon=1e-4)),
    ]
    unrolled, *others = (_gradients(layer, case) for layer in layers)
    for other in others:
        assert_close(other, unrolled, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("mode", [Implicit(cg_tolerance=1e-12), DirectLoss(epsilon=1e-3)], ids=repr)
@every_case
def test_gradient_of_the_solution_passes_gradcheck(mode, case):
    case, layer = case(batch=2), TrajOptLayer(NewtonCG(max_steps=8), mode)

    def solve(latent: Tensor, actions: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        solution = layer(case.objective, latent, actions)
        return solution.actions, solution.value

    inputs = (case.latent.requires_grad_(), case.actions.requires_grad_(), *case.parameters)
    assert torch.autograd.gradcheck(solve, inputs, atol=1e-6, rtol=1e-4, fast_mode=True)


@every_unrolled_solver
@every_case
def test_unrolled_gradient_passes_gradcheck(solver, case):
    case, solver = case(batch=2), solver()
    solver.max_steps = 3  # The gradient must be exact for unconverged solves too.
    layer = TrajOptLayer(solver, Unroll())

    def solve(latent: Tensor, actions: Tensor, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        solution = layer(case.objective, latent, actions)
        return solution.actions, solution.value

    inputs = (case.latent.requires_grad_(), case.actions.requires_grad_(), *case.parameters)
    assert torch.autograd.gradcheck(solve, inputs, atol=1e-6, rtol=1e-4, fast_mode=True)


@every_contracting_solver
@every_case
def test_truncated_gradient_approaches_the_unrolled_one(solver, case):
    case = case()
    exact = _gradients(TrajOptLayer(solver(), Unroll()), case)
    errors = [_distance(_gradients(TrajOptLayer(solver(), Truncated(n)), case), exact) for n in (1, 4, 12)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-2
    assert _distance(_gradients(TrajOptLayer(solver(), Truncated(cases.N_STEPS)), case), exact) < 1e-12


@every_solver
@every_case
def test_modes_agree_on_the_solution(solver, case):
    case = case()
    solutions = [
        TrajOptLayer(solver(), mode())(case.objective, case.latent, case.actions)
        for kind, mode in cases.MODES.items()
        if cases.fits(type(solver()), kind)
    ]
    for solution in solutions[1:]:
        _assert_same(solution, solutions[0])


@every_pair
@every_case
def test_element_alone_equals_itself_in_the_batch(solver, mode, case):
    case, layer = case(), TrajOptLayer(solver(), mode())
    together = layer(case.objective, case.latent, case.actions)
    alone = layer(case.objective, case.latent[1:2], case.actions[1:2])
    _assert_same(alone, together, elements=slice(1, 2))


@every_pair
def test_works_without_gradients(solver, mode):
    case, layer = problems.network(), TrajOptLayer(solver(), mode())
    expected = layer(case.objective, case.latent, case.actions)
    with torch.no_grad():
        without = layer(case.objective, case.latent, case.actions)
    with torch.inference_mode():
        # `* 1` creates inference tensors, as in an evaluation loop.
        inference = layer(case.objective, case.latent * 1, case.actions * 1)
        in_units = layer(case.objective, case.latent * 1, case.actions * 1, unit=torch.ones_like(case.actions[0, 0]))
    for solution in (without, inference, in_units):
        assert not solution.actions.requires_grad
        assert not solution.value.requires_grad
        _assert_same(solution, expected)


@every_pair
def test_accepts_inference_tensors_outside_inference_mode(solver, mode):
    case, layer = problems.network(), TrajOptLayer(solver(), mode())
    with torch.inference_mode():
        latent, actions = case.latent * 1, case.actions * 1
    _assert_same(layer(case.objective, latent, actions), layer(case.objective, case.latent, case.actions))


@every_pair
def test_solving_leaves_parameter_gradients_unchanged(solver, mode):
    case = problems.network()
    case.parameters[0].grad = torch.full_like(case.parameters[0], 7.0)
    TrajOptLayer(solver(), mode())(case.objective, case.latent.requires_grad_(), case.actions)
    assert (case.parameters[0].grad == 7.0).all()
    assert all(tensor.grad is None for tensor in (*case.parameters[1:], case.latent))


@every_pair
def test_float32_stays_float32_and_close_to_float64(solver, mode):
    case, layer = problems.quadratic(), TrajOptLayer(solver(), mode())
    matrix = case.parameters[0].detach().float()

    def objective(latent: Tensor, actions: Tensor) -> Tensor:
        return -0.5 * (actions - (latent @ matrix.T).unsqueeze(1)).square().sum(dim=(1, 2))

    solution = layer(objective, case.latent.float(), case.actions.float())
    assert solution.actions.dtype == solution.value.dtype == solution.best_actions.dtype == torch.float32
    assert solution.n_steps.tolist() == [cases.N_STEPS] * 4
    expected = layer(case.objective, case.latent, case.actions)
    assert_close(solution.actions.double(), expected.actions, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("bounds", cases.params(cases.BOUNDS))
@every_solver
def test_bounded_actions_stay_within_their_limits(solver, bounds):
    case, bounds = problems.quadratic(), bounds()
    latent = 20 * case.latent
    assert (case.optimum(latent).abs() > 1.5).any()
    solution = TrajOptLayer(solver(), Detached(), bounds)(case.objective, latent, case.actions)
    outside = max(solution.actions.abs().max(), solution.best_actions.abs().max()) > 1
    assert outside == isinstance(bounds, Unbounded)


@every_exact_pair
def test_projected_optimum_of_a_separable_problem_is_clamped(solver, mode):
    case = problems.quadratic()
    latent = 4 * case.latent
    solution = TrajOptLayer(solver(), mode(), Projection(-0.8, 0.8))(case.objective, latent, case.actions)
    optimum = case.optimum(latent).clamp(-0.8, 0.8)
    assert (optimum.abs() == 0.8).any()
    assert (optimum.abs() < 0.7).any()
    assert_close(solution.actions, optimum, rtol=1e-6, atol=1e-8)
    assert solution.grad_norm.max() < 1e-6
    actual = torch.autograd.grad(solution.actions.sum(), case.parameters)
    assert_close(actual, torch.autograd.grad(optimum.sum(), case.parameters), rtol=1e-4, atol=1e-6)


@every_pair
@every_case
@pytest.mark.parametrize("grad_tolerance", [0.0, 0.05, 10.0])
def test_solution_is_the_same_with_and_without_gradients(solver, mode, case, grad_tolerance):
    case, solver = case(), solver()
    solver.grad_tolerance = grad_tolerance
    layer = TrajOptLayer(solver, mode())
    attached = layer(case.objective, case.latent, case.actions)
    with torch.no_grad():
        without = layer(case.objective, case.latent, case.actions)
    _assert_same(attached, without)
    if hasattr(mode(), "n_differentiated"):
        _assert_same(attached, TrajOptLayer(solver, Detached())(case.objective, case.latent, case.actions))


@every_unrolled_solver
@every_case
def test_elements_that_stop_early_are_differentiated_through_all_their_steps(solver, case):
    case, solver = case(), solver()
    solver.grad_tolerance = 0.05
    steps = TrajOptLayer(solver, Detached())(case.objective, case.latent, case.actions).n_steps
    # The largest number of steps covers the solves of all elements.
    covering = Truncated(max(1, int(steps.max())))
    actual, expected = (_gradients(TrajOptLayer(solver, mode), case) for mode in (covering, Unroll()))
    assert expected.abs().max() > 0.1
    assert_close(actual, expected, rtol=1e-10, atol=1e-12)


@every_exact_pair
def test_gradient_of_the_value_equals_that_of_the_closed_form(solver, mode):
    case = problems.linear_dynamics()
    solution = TrajOptLayer(solver(), mode())(case.objective, case.latent.requires_grad_(), case.actions)
    inputs = [case.latent, *case.parameters]
    actual = torch.autograd.grad(solution.value.sum(), inputs)
    expected = torch.autograd.grad(case.objective(case.latent, case.optimum(case.latent)).sum(), inputs)
    assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@every_exact_pair
@pytest.mark.parametrize("case", [problems.quadratic, problems.linear_dynamics])
def test_second_derivative_is_exact_or_raises_an_error(solver, mode, case):
    case = case()
    case.latent.requires_grad_()

    def penalty(actions: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(actions.sin().sum(), case.latent, create_graph=True)
        return gradient.square().sum()

    found = penalty(TrajOptLayer(solver(), mode())(case.objective, case.latent, case.actions).actions)
    if not isinstance(mode(), Unroll):
        with pytest.raises(RuntimeError, match=f"{type(mode()).__name__} is differentiable once.*use Unroll"):
            torch.autograd.grad(found, case.parameters)
        return
    actual = torch.autograd.grad(found, case.parameters)
    expected = torch.autograd.grad(penalty(case.optimum(case.latent)), case.parameters)
    assert_close(actual, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("solver", "mode"),
    cases.pairs({part: cases.CONVERGING[part] for part in cases.SCALE_FREE}, {**cases.EXACT, DirectLoss: DirectLoss}),
)
@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_scale_of_the_objective_changes_neither_solution_nor_gradient(solver, mode, scale):
    case = problems.linear_dynamics()
    layer = TrajOptLayer(solver(), mode())
    solution = layer(lambda z, a: scale * case.objective(z, a), case.latent.requires_grad_(), case.actions)
    assert_close(solution.actions, case.optimum(case.latent), rtol=1e-6, atol=1e-8)
    inputs = [case.latent, *case.parameters]
    actual = torch.autograd.grad(solution.actions.sum(), inputs)
    assert_close(actual, torch.autograd.grad(case.optimum(case.latent).sum(), inputs), rtol=1e-4, atol=1e-6)


def _gradients(layer: TrajOptLayer, case: problems.Case) -> Tensor:
    actions = layer(case.objective, case.latent, case.actions).actions
    weight = torch.randn(actions.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad((weight * actions).sum(), case.parameters)
    return torch.cat([gradient.flatten() for gradient in gradients])


def _distance(actual: Tensor, expected: Tensor) -> float:
    return ((actual - expected).norm() / expected.norm()).item()


def _assert_same(actual: Solution, expected: Solution, elements: slice = slice(None)) -> None:
    for name in set(vars(expected)) - {"trace"}:
        # Near an optimum the differences between values are rounding errors, so the best iterate may differ.
        tolerance = {"rtol": 1e-6, "atol": 1e-6} if name == "best_actions" else {"rtol": 1e-10, "atol": 1e-12}
        assert_close(
            getattr(actual, name).detach(), getattr(expected, name)[elements].detach(), equal_nan=True, **tolerance
        )
