"""Gauss–Newton with one residual per term of the return."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.tree import per_element, select

LOWEST_DAMPING, HIGHEST_DAMPING = 1e-8, 1e8


@dataclass(frozen=True)
class GaussNewtonState(SolverState):
    """Adds the damping λ of each element (B,)."""

    damping: Tensor


class GaussNewton(StepSolver):
    """Levenberg–Marquardt on K residuals r, one per term of the return: Δa = −α (JᵀJ + λI)⁻¹ Jᵀ r, J = ∂r/∂a.

    With a single residual, as in `LevenbergMarquardt`, JᵀJ has rank one and models the curvature along the gradient
    only. The return is a sum over time steps; with one residual per term JᵀJ has rank K. `return_to_residuals` computes
    the residuals. Each step takes K backward passes for the Jacobian and solves a dense H · A x H · A system by
    Cholesky factorisation.

    By the Woodbury identity the step also equals Jᵀ (J Jᵀ + λI)⁻¹ r, with K unknowns instead of H · A. That form is not
    used: if components rest on bounds, J Jᵀ is singular, and the component of r in its null space, divided by λ,
    cancels only up to float32 rounding. The factorisation is cheap compared with the Jacobian.

    Adaptive damping (Nielsen's and Marquardt's rule): a step that lowers the return is rejected and λ is multiplied by
    four; if the model predicted the increase well, λ is divided by three. This takes one more evaluation of the return
    per step, without a gradient.

    Args:
        max_steps: number of steps.
        step_size: α.
        damping: λ; its initial value if it is adaptive.
        adaptive: whether λ adapts, separately for each element; otherwise every step is accepted.
        offset: must exceed every term of the return; not used if the objective defines `residuals`.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
    """

    # A tilt of the objective does not change the residuals.
    tiltable = False
    compiles = False

    def __init__(
        self,
        max_steps: int = 20,
        step_size: float = 1.0,
        damping: float = 1.0,
        adaptive: bool = True,
        offset: float = 1000.0,
        grad_tolerance: float = 0.0,
    ) -> None:
        check_positive(max_steps=max_steps, step_size=step_size, damping=damping)
        check_not_negative(grad_tolerance=grad_tolerance)
        self.max_steps = max_steps
        self.step_size = step_size
        self.damping = damping
        self.adaptive = adaptive
        self.offset = offset
        self.grad_tolerance = grad_tolerance

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> GaussNewtonState:
        """Return the state at the first `iterate` (B, H, A)."""
        start = super().init(problem, latent, iterate)
        damping = torch.full_like(start.evaluation.value, self.damping)
        return GaussNewtonState(start.iterate, start.evaluation, damping)

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> GaussNewtonState:
        """Solve the damped system on the free components and project the iterate."""
        assert isinstance(state, GaussNewtonState)
        residuals, jacobian = problem.jacobian(latent, state.iterate, self.offset)
        free = ~problem.bounds.active(state.iterate.detach(), state.evaluation.gradient.detach())
        rows = (jacobian * free.unsqueeze(1)).flatten(2)
        columns = rows.transpose(1, 2)
        step = -_solve(columns @ rows, state.damping, columns @ residuals.unsqueeze(2))
        iterate = problem.bounds.project(state.iterate + self.step_size * step.view_as(state.iterate))
        damping = state.damping
        if self.adaptive:
            # Reject steps before the evaluation below: the graph must not contain a rejected iterate with value −inf.
            with torch.no_grad():
                value = problem.value(latent, iterate)
            worse, damping = _adapt(state, iterate, value, rows)
            iterate = select(worse, state.iterate, iterate)
        return GaussNewtonState(iterate, problem.evaluate(latent, iterate), damping)


@torch.no_grad()
def _adapt(state: GaussNewtonState, iterate: Tensor, value: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mark the elements (B,) whose value falls in the step to `iterate`, and compute the next damping (B,)."""
    move = (iterate - state.iterate).flatten(1)
    slope = (move * state.evaluation.gradient.flatten(1)).sum(dim=1)
    predicted = slope - 0.5 * (rows @ move.unsqueeze(2)).square().sum(dim=(1, 2))
    increase = value - state.evaluation.value
    rounding = 10 * torch.finfo(increase.dtype).eps * state.evaluation.value.abs()
    # NaN does not count as worse: the step is accepted, and the loop marks the element as failed.
    worse = increase < -rounding
    well_predicted = increase > 0.75 * predicted
    factor = torch.where(worse, 4.0, torch.where(well_predicted, 1 / 3, 1.0))
    return worse, (state.damping * factor).clamp(LOWEST_DAMPING, HIGHEST_DAMPING)


def _solve(gram: Tensor, damping: Tensor, right: Tensor) -> Tensor:
    """Solve (G + λI) x = r for G (B, N, N), λ (B,) and r (B, N, 1), with N = H · A."""
    # Rounding can make G slightly indefinite; the jitter exceeds that error, so the factorisation succeeds.
    diagonal = gram.diagonal(dim1=1, dim2=2)
    jitter = 10 * gram.shape[-1] * torch.finfo(gram.dtype).eps * diagonal.detach().sum(dim=1)
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    factor, _ = torch.linalg.cholesky_ex(gram + per_element(damping + jitter, gram) * identity)
    return torch.cholesky_solve(right, factor)
