"""Levenberg–Marquardt with one residual, in closed form."""

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

    Args:
        max_steps: number of steps; the authors use 50 to 200.
        step_size: α; the authors use 3e-5 to 1e-3.
        damping: λ; the authors use 1e-3 to 0.5.
        offset: constant from which the return is subtracted.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
    """

    def __init__(
        self,
        max_steps: int = 100,
        step_size: float = 1e-4,
        damping: float = 1e-2,
        offset: float = 1000.0,
        grad_tolerance: float = 0.0,
    ) -> None:
        check_positive(max_steps=max_steps, step_size=step_size, damping=damping)
        check_not_negative(grad_tolerance=grad_tolerance)
        self.max_steps = max_steps
        self.step_size = step_size
        self.damping = damping
        self.offset = offset
        self.grad_tolerance = grad_tolerance

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> SolverState:
        """Take one damped step and project the iterate."""
        gradient = state.evaluation.gradient
        residual = return_to_residual(state.evaluation.value, self.offset)
        # Dividing before multiplying by g keeps float32 finite for gradient norms up to 1e19.
        scale = self.step_size * residual / (self.damping + gradient.square().sum(dim=(1, 2)))
        iterate = problem.bounds.project(state.iterate + per_element(scale, gradient) * gradient)
        return SolverState(iterate, problem.evaluate(latent, iterate))
