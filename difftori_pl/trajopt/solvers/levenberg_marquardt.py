"""Levenberg–Marquardt on one residual, in closed form."""

from difftori_pl.trajopt.objective import Latent, return_to_residual
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.tree import per_element


class LevenbergMarquardt(StepSolver):
    """Δa = α · r · g / (λ + ‖g‖²), with g = ∂G/∂a and the single residual r = offset − G.

    The authors minimise r² by Levenberg–Marquardt with constant damping. The Jacobian of one residual is the row −gᵀ,
    so the system (g gᵀ + λI) Δa = r g is solved by the Sherman–Morrison identity: no matrix, no factorisation, and
    nothing that could be singular. The iterates are those of the published solver up to rounding.

    The offset sets how far a step goes; it is the authors' 1000. It must exceed every return that can be reached:
    beyond it the residual changes sign, and steps lead back down.

    Args:
        max_steps: number of steps; the authors take 50 to 200.
        step_size: α; the authors take 3e-5 to 1e-3.
        damping: λ; the authors take 1e-3 to 0.5.
        offset: what the return is subtracted from.
        grad_tolerance: an element whose gradient norm is below this is done; 0 never stops early.
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
        """Take one damped step and project it."""
        gradient = state.evaluation.gradient
        residual = return_to_residual(state.evaluation.value, self.offset)
        # Dividing before multiplying by g keeps float32 finite for gradient norms up to 1e19.
        scale = self.step_size * residual / (self.damping + gradient.square().sum(dim=(1, 2)))
        iterate = problem.bounds.project(state.iterate + per_element(scale, gradient) * gradient)
        return SolverState(iterate, problem.evaluate(latent, iterate))
