"""Implicit and DirectLoss: requirements, fallbacks and accuracy."""

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt import Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, DirectLoss, Implicit, LibraryMode, Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection, StraightThroughProjection, Tanh
from difftori_pl.trajopt.solvers import LBFGS, Adam, LevenbergMarquardt, NewtonCG
from tests import cases, problems

both = pytest.mark.parametrize("kind", [Implicit, DirectLoss])
PART = {**cases.SETTINGS, "max_steps": 3}


def half_solved(mode):
    """Solve a case in which two elements start at their optimum and two stop far from it."""
    case = problems.quadratic()
    actions = case.actions.clone()
    actions[:2] = case.optimum(case.latent)[:2].detach()
    return case, actions, TrajOptLayer(LevenbergMarquardt(**PART), mode)(case.objective, case.latent, actions)


def _assert_close_for(kind, actual, exact):
    if kind is Implicit:
        assert_close(actual, exact, rtol=1e-4, atol=1e-6)
    else:
        # Three steps of this solver cover the fraction 1 − 0.4³ of the way to a tilted maximum and of the gradient.
        assert_close(actual, (1 - 0.4**3) * exact, rtol=1e-2, atol=1e-4)


@both
def test_non_stationary_elements_are_reported_and_have_no_gradient(kind):
    case, _, solution = half_solved(kind())
    assert solution.status.tolist() == [0, 0, Status.NOT_STATIONARY, Status.NOT_STATIONARY]
    (actual,) = torch.autograd.grad(solution.actions.sum(), case.parameters)
    (expected,) = torch.autograd.grad(case.optimum(case.latent)[:2].sum(), case.parameters)
    _assert_close_for(kind, actual, expected)


@both
def test_fallback_differentiates_non_stationary_elements(kind):
    case, actions, solution = half_solved(kind(fallback=Unroll()))
    assert solution.status.tolist() == [0, 0, Status.NOT_STATIONARY, Status.NOT_STATIONARY]
    layer = TrajOptLayer(LevenbergMarquardt(**PART), Unroll())
    unrolled = layer(case.objective, case.latent, actions)
    assert_close(solution.actions, unrolled.actions)
    (actual,) = torch.autograd.grad(solution.actions.sum(), case.parameters)
    (of_solution,) = torch.autograd.grad(case.optimum(case.latent)[:2].sum(), case.parameters)
    (of_steps,) = torch.autograd.grad(unrolled.actions[2:].sum(), case.parameters)
    _assert_close_for(kind, actual - of_steps, of_solution)


@both
@pytest.mark.parametrize("fallback", [None, Truncated(2)])
def test_backward_runs_without_any_stationary_element(kind, fallback):
    case = problems.quadratic()
    layer = TrajOptLayer(LevenbergMarquardt(**PART), kind(fallback=fallback))
    solution = layer(case.objective, case.latent, case.actions)
    assert solution.status.tolist() == [Status.NOT_STATIONARY] * 4
    solution.actions.sum().backward()
    gradient = case.parameters[0].grad
    assert (gradient is not None and (gradient != 0).any()) == (fallback is not None)


@both
def test_failed_elements_do_not_change_the_gradient_of_others(kind):
    case = problems.network()
    latent = case.latent.clone()
    latent[1] = torch.nan
    layer = TrajOptLayer(NewtonCG(), kind())
    solution = layer(case.objective, latent, case.actions)
    assert (solution.status == Status.FAILED).tolist() == [False, True, False, False]
    expected = layer(case.objective, case.latent[[0, 2, 3]], case.actions[[0, 2, 3]])
    gradients = [torch.autograd.grad(each.actions.square().sum(), case.parameters) for each in (solution, expected)]
    assert_close(gradients[0], gradients[1], rtol=1e-10, atol=1e-12)


def test_memory_does_not_grow_with_the_steps():
    case, kept = problems.network(), []
    with torch.no_grad():
        counts = [_n_saved(TrajOptLayer(Adam(max_steps=n), Detached()), case) for n in (1, 2)]
    # One evaluation without a gradient to the parameters saves this many numbers and frees them at once.
    freed_per_step = counts[1] - counts[0]
    for max_steps in (5, 50):
        n_saved = _n_saved(TrajOptLayer(Adam(max_steps=max_steps), Implicit(tolerance=torch.inf)), case)
        kept.append(n_saved - max_steps * freed_per_step)
    assert kept[0] == kept[1]


def _n_saved(layer, case):
    """Count the numbers that autograd saves for a backward pass during a solve."""
    count = 0

    def pack(tensor):
        nonlocal count
        count += tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        solution = layer(case.objective, case.latent, case.actions)
    assert solution.actions.requires_grad == torch.is_grad_enabled()
    return count


def test_damping_shrinks_the_gradient_as_documented():
    case = problems.quadratic()
    for damping in (0.0, 0.5):
        layer = TrajOptLayer(NewtonCG(), Implicit(damping=damping))
        (actual,) = torch.autograd.grad(layer(case.objective, case.latent, case.actions).actions.sum(), case.parameters)
        (exact,) = torch.autograd.grad(case.optimum(case.latent).sum(), case.parameters)
        assert_close(actual, exact / (1 + damping), rtol=1e-6, atol=1e-8)


@both
def test_singular_hessian_gives_a_finite_gradient(kind):
    # The objective does not depend on the second action component, so the Hessian is singular.
    latent = torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
    solution = TrajOptLayer(LBFGS(), kind())(
        lambda z, a: -(a[:, 0, 0] - 0.5 * z[:, 0]).square(), latent, torch.zeros(2, 1, 2, dtype=torch.float64)
    )
    (gradient,) = torch.autograd.grad(solution.actions[..., 0].sum(), latent)
    assert_close(gradient, torch.full_like(latent, 0.5).detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("bounds", [Projection(-0.8, 0.8), StraightThroughProjection(-0.8, 0.8), Tanh(-2, 2)], ids=repr)
def test_components_on_a_bound_have_no_gradient(bounds):
    case = problems.quadratic()
    latent = 4 * case.latent
    layer = TrajOptLayer(NewtonCG(max_steps=30), Implicit(cg_tolerance=1e-12), bounds)
    solution = layer(case.objective, latent, case.actions)
    optimum = case.optimum(latent).clamp(bounds.low, bounds.high)
    assert_close(solution.actions, optimum, rtol=1e-6, atol=1e-8)
    actual = torch.autograd.grad(solution.actions.sum(), case.parameters)
    assert_close(actual, torch.autograd.grad(optimum.sum(), case.parameters), rtol=1e-4, atol=1e-6)


def test_recomputing_does_not_change_the_gradient():
    case, gradients = problems.network(), []
    for recompute in (False, True):
        layer = TrajOptLayer(LevenbergMarquardt(**cases.SETTINGS), Unroll(recompute))
        solution = layer(case.objective, case.latent, case.actions)
        gradients.append(torch.autograd.grad(solution.actions.square().sum(), case.parameters))
    assert_close(gradients[1], gradients[0], rtol=1e-12, atol=1e-14)


def test_refuses_incompatible_parts_and_bad_settings():
    with pytest.raises(ConfigurationError, match="LBFGS cannot be differentiated by Truncated"):
        TrajOptLayer(LBFGS(), Implicit(fallback=Truncated()))
    with pytest.raises(ConfigurationError, match="Adam has no library backward mode 'dlm'; it has none"):
        TrajOptLayer(Adam(), LibraryMode("dlm"))
    for kind, name in (
        (Implicit, "max_products"),
        (Implicit, "cg_tolerance"),
        (DirectLoss, "epsilon"),
    ):
        with pytest.raises(ConfigurationError, match=f"{name} must be above 0"):
            kind(**{name: 0})
    with pytest.raises(ConfigurationError, match="tolerance must be 0 or above"):
        Implicit(tolerance=-1.0)


def test_fallback_of_one_element_does_not_change_the_others():
    def objective(latent, actions):
        return -(actions[:, 0] - latent).square().sum(1) * (1 + 10 * latent[:, 0].abs())

    latent, actions = torch.tensor([[0.2, 0.1], [0.9, -0.9]]), torch.zeros(2, 1, 2)
    solver = LevenbergMarquardt(max_steps=20, step_size=1e-3, damping=0.5, offset=100.0, grad_tolerance=0.4)
    layer = TrajOptLayer(solver, Implicit(tolerance=0.5, fallback=Truncated(5)))
    alone, together = (layer(objective, latent[:n], actions[:n]) for n in (1, 2))
    assert together.status[1] == Status.NOT_STATIONARY
    for name in ("actions", "value", "best_actions", "best_value", "status", "n_steps", "grad_norm"):
        assert_close(getattr(together, name)[:1], getattr(alone, name), msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize("solver", [NewtonCG(), LBFGS()], ids=repr)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_saturated_action_does_not_change_the_gradient_of_others(solver, dtype):
    centre = torch.tensor([3.0, 0.2], dtype=dtype, requires_grad=True)
    layer = TrajOptLayer(solver, DirectLoss(), Tanh())
    start = torch.zeros(1, 1, 2, dtype=dtype)
    layer(lambda z, a: -(a[:, 0] - centre).square().sum(1), start[:, 0, :1], start).actions.sum().backward()
    assert_close(centre.grad, torch.tensor([0.0, 1.0], dtype=dtype), atol=1e-2, rtol=0.0)


@pytest.mark.parametrize("grad_tolerance", [0.0, 1e-3, 5e-3, 1e-2])
def test_tilted_solves_do_not_stop_early(grad_tolerance):
    latent = torch.tensor([[0.1]], dtype=torch.float64, requires_grad=True)
    layer = TrajOptLayer(Adam(150, beta_1=0.5, beta_2=0.99, grad_tolerance=grad_tolerance), DirectLoss(tolerance=0.1))
    start = torch.zeros(1, 1, 1, dtype=torch.float64)
    solution = layer(lambda z, a: -0.5 * (a[:, 0] - 2 * z).square().sum(dim=1), latent, start)
    (gradient,) = torch.autograd.grad(solution.actions.sum(), latent)
    assert_close(gradient.item(), 2.0, rtol=1e-4, atol=1e-6)


@both
@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3])
def test_start_away_from_the_maximum_is_not_stationary(kind, scale):
    case = problems.quadratic()
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=1, step_size=1e-12), kind())
    solution = layer(lambda z, a: scale * case.objective(z, a), case.latent, case.actions)
    assert solution.status.tolist() == [Status.NOT_STATIONARY] * 4


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_start_at_the_maximum_is_stationary(kind, dtype, scale):
    latent = torch.linspace(0.1, 0.9, 9, dtype=dtype).unsqueeze(1).requires_grad_()
    layer = TrajOptLayer(NewtonCG(max_steps=5), kind())

    def objective(latent, actions):
        return -scale * (actions[:, 0] - latent.sin()).square().sum(dim=1)

    # With a rounding error, like the solution of an earlier solve.
    start = (latent.detach().sin() * (1 + 2 * torch.finfo(dtype).eps)).unsqueeze(1)
    solution = layer(objective, latent, start)
    assert (solution.status != Status.NOT_STATIONARY).all()
    (gradient,) = torch.autograd.grad(solution.actions.sum(), latent)
    assert_close(gradient, latent.detach().cos(), rtol=1e-2, atol=1e-3)


def test_second_derivative_with_respect_to_loss_parameters_raises_an_error():
    case = problems.quadratic()
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    solution = TrajOptLayer(NewtonCG(), Implicit())(case.objective, case.latent.requires_grad_(), case.actions)
    (gradient,) = torch.autograd.grad((weight * solution.actions).sum(), case.latent, create_graph=True)
    with pytest.raises(RuntimeError, match=r"Implicit is differentiable once.*use Unroll"):
        torch.autograd.grad(gradient.sum(), weight)
