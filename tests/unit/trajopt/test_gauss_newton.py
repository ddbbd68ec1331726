import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt import ActionScore, Status, TrajOptLayer
from difftori_pl.trajopt.backward import Detached, DirectLoss, Implicit, Truncated, Unroll
from difftori_pl.trajopt.bounds import Projection, Unbounded
from difftori_pl.trajopt.solvers import GaussNewton, Theseus
from tests import cases, problems

LATENT = torch.linspace(-1, 1, 3, dtype=torch.float64).view(3, 1)
START = torch.zeros(3, 2, 2, dtype=torch.float64)


class Residuals:
    """G = −½ ‖r‖² with more residuals than actions, one of them nonlinear."""

    def __init__(self):
        self.matrix = problems.uniform(5, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()

    def residuals(self, latent: Tensor, actions: Tensor) -> Tensor:
        linear = actions.flatten(1) @ self.matrix.T - latent
        return torch.cat((linear, 0.3 * actions[:, :1, 0].sin() + 0.1), dim=1)

    def __call__(self, latent: Tensor, actions: Tensor) -> Tensor:
        return -0.5 * self.residuals(latent, actions).square().sum(dim=1)


@pytest.mark.parametrize("adaptive", [False, True])
def test_step_solves_the_damped_normal_equations(adaptive):
    objective, damping = Residuals(), 0.3
    layer = TrajOptLayer(GaussNewton(max_steps=1, damping=damping, adaptive=adaptive), Detached(), Unbounded())
    actual = layer(objective, LATENT, START).actions
    for b in range(3):
        residual = lambda flat, b=b: objective.residuals(LATENT[b : b + 1], flat.view(1, 2, 2))[0]  # noqa: E731
        flat = START[b].flatten()
        jacobian = torch.autograd.functional.jacobian(residual, flat)
        step = torch.linalg.solve(
            jacobian.T @ jacobian + damping * torch.eye(4, dtype=torch.float64), -jacobian.T @ residual(flat)
        )
        assert_close(actual[b].flatten(), step.detach())


def test_linear_residuals_are_solved_in_one_step():
    matrix = problems.uniform(6, 4, generator=torch.Generator().manual_seed(1))

    class Linear:
        def residuals(self, latent, actions):
            return actions.flatten(1) @ matrix.T - latent

        def __call__(self, latent, actions):
            return -0.5 * self.residuals(latent, actions).square().sum(dim=1)

    solver = GaussNewton(max_steps=1, damping=1e-10, adaptive=False)
    solution = TrajOptLayer(solver, Detached(), Unbounded())(Linear(), LATENT, START)
    expected = torch.linalg.lstsq(matrix, LATENT.expand(3, 6).T).solution.T.view(3, 2, 2)
    assert_close(solution.actions, expected, rtol=1e-6, atol=1e-8)


@cases.needs_theseus[0]
@cases.needs_theseus[1]
def test_takes_the_steps_of_theseus():
    arguments = {"max_steps": 4, "step_size": 0.7, "damping": 0.5}
    objective, solutions = Residuals(), []
    for solver in (GaussNewton(**arguments, adaptive=False), Theseus(**arguments, per_term=True)):
        solution = TrajOptLayer(solver, Unroll(), Unbounded())(objective, LATENT, START)
        (gradient,) = torch.autograd.grad(solution.actions.square().sum(), objective.matrix)
        solutions.append((solution.actions, gradient))
    assert_close(solutions[0], solutions[1], rtol=1e-8, atol=1e-10)


def test_adaptive_damping_never_lowers_the_return():
    # Far from its optimum the model overestimates the increase: undamped steps overshoot.
    class Steep:
        def residuals(self, latent, actions):
            return 3 * torch.tanh(4 * actions.flatten(1) - 3 * latent)

        def __call__(self, latent, actions):
            return -0.5 * self.residuals(latent, actions).square().sum(dim=1)

    start = torch.full_like(START, 0.4)
    fixed, adaptive = (
        TrajOptLayer(GaussNewton(max_steps=40, damping=1e-3, adaptive=adaptive), Detached(), Unbounded())(
            Steep(), LATENT, start, trace=True
        )
        for adaptive in (False, True)
    )
    assert (fixed.trace.values.diff(dim=1) < 0).any()
    assert (adaptive.trace.values.diff(dim=1) >= -1e-12).all()
    assert adaptive.grad_norm.max() < 1e-6
    assert adaptive.status.tolist() == [Status.MAX_STEPS] * 3


def test_each_term_of_a_return_is_one_residual():
    objective = ActionScore(lambda z, a: -(a - z).square().sum(dim=1) - 0.1, lambda z, a: z + 0.1 * a)
    solution = TrajOptLayer(GaussNewton(max_steps=30, damping=0.1, offset=0.0), Detached())(
        objective, LATENT, START[..., :1]
    )
    assert solution.grad_norm.max() < 1e-6


@pytest.mark.parametrize("damping", [1e-8, 1e3])
@pytest.mark.parametrize("scale", [1e-10, 1.0, 1e6])
def test_float32_never_fails(damping, scale):
    matrix = torch.tensor([[1.0, 1.0], [1.0, 1.0]])  # singular

    class Scaled:
        def residuals(self, latent, actions):
            return scale * (actions.flatten(1) @ matrix.T - latent)

        def __call__(self, latent, actions):
            return -0.5 * self.residuals(latent, actions).square().sum(dim=1)

    for adaptive in (False, True):
        solver = GaussNewton(max_steps=6, damping=damping, adaptive=adaptive)
        solution = TrajOptLayer(solver, Unroll())(Scaled(), torch.ones(2, 1), torch.zeros(2, 1, 2))
        assert solution.status.tolist() == [Status.MAX_STEPS] * 2
        assert torch.isfinite(solution.actions).all()


def test_refuses_unsupported_modes_and_bad_settings():
    with pytest.raises(ConfigurationError, match="cannot be differentiated by DirectLoss"):
        TrajOptLayer(GaussNewton(), DirectLoss())
    with pytest.raises(ConfigurationError, match="cannot be compiled"):
        TrajOptLayer(GaussNewton(), Unroll(), compiled=True)
    for name in ("max_steps", "step_size", "damping"):
        with pytest.raises(ConfigurationError, match=name):
            GaussNewton(**{name: 0})

    class Wrong(Residuals):
        def residuals(self, latent, actions):
            return super().residuals(latent, actions).sum(dim=1)

        def __call__(self, latent, actions):
            return -actions.square().sum(dim=(1, 2))

    with pytest.raises(ShapeError, match=r"residuals must be \(batch, number\)"):
        TrajOptLayer(GaussNewton(), Unroll())(Wrong(), LATENT, START)


@pytest.mark.parametrize("limit", [1.0, 0.1])
def test_components_on_bounds_do_not_reduce_accuracy(limit):
    random = torch.Generator().manual_seed(0)
    latent = {
        "jacobian": torch.randn(500, 8, 8, generator=random) / 8**0.5,
        "aim": 2 * torch.randn(500, 8, generator=random),
    }

    class LeastSquares:
        def residuals(self, latent, actions):
            return torch.einsum("bki,bi->bk", latent["jacobian"], actions.flatten(1)) - latent["aim"]

        def __call__(self, latent, actions):
            return -0.5 * self.residuals(latent, actions).square().sum(1)

    layer = TrajOptLayer(GaussNewton(max_steps=20), Implicit(), Projection(-limit, limit))
    exact = layer(
        LeastSquares(), {name: tensor.double() for name, tensor in latent.items()}, torch.zeros(500, 1, 8).double()
    )
    found = layer(LeastSquares(), latent, torch.zeros(500, 1, 8))
    assert (found.status != Status.NOT_STATIONARY).all()
    assert (found.actions.abs() == limit).any()
    assert_close(found.actions.double(), exact.actions, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("mode", [Unroll(), Truncated(5)], ids=repr)
def test_step_rejected_at_minus_infinity_leaves_the_gradient_finite(mode):
    weight = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)

    def objective(latent, actions):
        action = weight * actions[:, 0, 0]
        return -0.5 * (action - 2.0).square() + 0.05 * weight * (1.2 - action).clamp(min=0).log()

    solver = GaussNewton(max_steps=8, damping=1e-3, offset=10.0)
    start = torch.zeros(1, 1, 1, dtype=torch.float64)

    def solve():
        return TrajOptLayer(solver, mode, Unbounded())(objective, LATENT[:1], start, trace=True)

    solution = solve()
    assert solution.status.tolist() == [Status.MAX_STEPS]
    assert (solution.trace.values.diff(dim=1) == 0).any(), "the case must reject a step"
    actual = torch.autograd.grad(solution.value.sum() + solution.actions.sum(), weight)[0]
    assert torch.isfinite(actual)
    if isinstance(mode, Unroll):
        ends = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                weight.fill_(1.0 + step)
                nearby = solve()
            ends.append((nearby.value.sum() + nearby.actions.sum()).item())
        assert_close(actual.item(), (ends[0] - ends[1]) / 2e-6, rtol=1e-4, atol=1e-6)
