"""Levenberg–Marquardt with one residual, in closed form."""

import torch

from difftori_pl.trajopt.objective import Latent, return_to_residual
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.tree import per_element


class LevenbergMarquardt(StepSolver):
    """Δa = α · r · g / (λ + ‖g‖²), with g = ∂G/∂a and the single residual r = offset − G.

    The authors minimise r² by Levenberg–Marquardt with constant damping. The Jacobian of one residual is the row −gᵀ,
    so the Sherman–Morrison identity solves the system (g gᵀ + λI) Δa = r g without a matrix or a factorisation, and it
    is never singular. The iterates equal those of the published solver up to rounding.

    The offset scales the step length; the authors use 1000. It must exceed every reachable return: above it the
    residual changes sign, and steps lower the return.

    A step is longest where ‖g‖ = √λ: α · r / (2√λ). If returns are small compared with the offset, a solve of n steps
    moves an action by at most the reach n · α · offset / (2√λ): 5 for 5 steps of α = 2e-4 with λ = 0.01. The reach does
    not depend on the score. Choose it instead of α if the initial actions are good.

    Args:
        max_steps: number of steps; the authors use 50 to 200.
        step_size: α; the authors use 3e-5 to 1e-3.
        damping: λ; the authors use 1e-3 to 0.5.
        offset: constant from which the return is subtracted.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
        reach: largest distance of the solution from the initial actions, in their unit: standard deviations in
            `DiffTORIIL`. It replaces `step_size`; None keeps `step_size`.
    """

    def __init__(
        self,
        max_steps: int = 100,
        step_size: float = 1e-4,
        damping: float = 1e-2,
        offset: float = 1000.0,
        grad_tolerance: float = 0.0,
        reach: float | None = None,
    ) -> None:
        check_positive(max_steps=max_steps, damping=damping)
        if reach is not None:
            check_positive(reach=reach, offset=offset)
            step_size = 2 * reach * damping**0.5 / (max_steps * offset)
        check_positive(step_size=step_size)
        check_not_negative(grad_tolerance=grad_tolerance)
        self.max_steps = max_steps
        self.step_size = step_size
        self.damping = damping
        self.offset = offset
        self.grad_tolerance = grad_tolerance

    @property
    def reach(self) -> float:
        """Largest distance that a solve moves an action whose return is small compared with the offset."""
        return self.max_steps * self.step_size * self.offset / (2 * self.damping**0.5)

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> SolverState:
        """Take one damped step and project the iterate."""
        gradient = state.evaluation.gradient
        residual = return_to_residual(state.evaluation.value, self.offset)
        # Dividing before multiplying by g keeps float32 finite for gradient norms up to 1e19.
        scale = per_element(residual / (self.damping + gradient.square().sum(dim=(1, 2))), gradient)
        moved = torch.addcmul(state.iterate, scale, gradient, value=self.step_size)
        iterate = problem.bounds.project(moved)
        return SolverState(iterate, problem.evaluate(latent, iterate))
