"""Newton's method with exact Hessian-vector products."""

import torch

from difftori_pl.trajopt.conjugate_gradient import conjugate_gradient
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.solvers.line_search import search_line
from difftori_pl.trajopt.tree import per_element


class NewtonCG(StepSolver):
    """Projected truncated Newton (Nocedal and Wright, Numerical Optimization, Algorithm 7.1).

    Conjugate gradients with exact Hessian-vector products solve the Newton system on the components that do not push
    against an active bound. They stop at a direction in which the objective curves upwards and return the result so
    far, or a multiple of the gradient. `search_line` chooses the step length.

    Converges quadratically, in few but expensive steps. Like `LBFGS`, it is differentiated at the solution, not through
    its steps.

    Args:
        max_steps: number of steps.
        n_products: Hessian-vector products per step; H · A solve the system exactly.
        damping: subtracted from the Hessian's diagonal, in value per squared unit of the actions.
        first_step: length of a step where the objective has no curvature, in units of the actions.
        n_lengths: step lengths tried in each line search: 1, 1/2, 1/4 and so on.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
    """

    # The line search selects one of several lengths.
    steps_differentiable = False
    compiles = False

    def __init__(
        self,
        max_steps: int = 10,
        n_products: int = 10,
        damping: float = 0.0,
        first_step: float = 1.0,
        n_lengths: int = 10,
        grad_tolerance: float = 0.0,
    ) -> None:
        check_positive(max_steps=max_steps, n_products=n_products, first_step=first_step, n_lengths=n_lengths)
        check_not_negative(damping=damping, grad_tolerance=grad_tolerance)
        self.max_steps = max_steps
        self.n_products = n_products
        self.damping = damping
        self.first_step = first_step
        self.n_lengths = n_lengths
        self.grad_tolerance = grad_tolerance

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> SolverState:
        """Compute the Newton direction and search along it."""
        curvature = problem.curvature(latent, state.iterate, self.damping)
        gradient = state.evaluation.gradient * curvature.free
        direction = conjugate_gradient(curvature.product, gradient, self.n_products, tolerance=1e-10)
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1).clamp(min=torch.finfo(gradient.dtype).tiny)
        straight = (direction == 0).flatten(1).all(dim=1)
        direction = torch.where(
            per_element(straight, gradient), per_element(self.first_step / length, gradient) * gradient, direction
        )
        iterate = search_line(problem, latent, state, direction, self.n_lengths)
        return SolverState(iterate, problem.evaluate(latent, iterate))
