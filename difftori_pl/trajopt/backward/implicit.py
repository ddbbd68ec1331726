"""The gradient of the solution from the implicit function theorem."""

from torch import Tensor

from difftori_pl.trajopt.backward.at_solution import AtSolution
from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.conjugate_gradient import conjugate_gradient
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Curvature, Problem
from difftori_pl.trajopt.solvers.base import Solver, check_not_negative, check_positive


class Implicit(AtSolution):
    """Invert the exact Hessian of the objective at the solution by conjugate gradients.

    Exact at a maximum, up to `cg_tolerance` and `damping`. Only Hessian-vector products are needed, one backward pass
    each. Differs from the implicit mode of Theseus, which uses the Gauss–Newton approximation of the Hessian: with one
    residual it has rank one, and the gradient is off by orders of magnitude.

    Where the objective is flat or curves upwards (no strict maximum) there is no implicit gradient. Damping then keeps
    the result finite; elsewhere it shrinks the gradient by about the fraction damping / (curvature + damping).

    Args:
        max_products: largest number of Hessian-vector products; H · A suffice in exact arithmetic.
        cg_tolerance: conjugate gradients stop when the residual norm of every element has fallen by this factor.
        damping: subtracted from the Hessian's diagonal, in value per squared unit of the actions.
        tolerance: see `AtSolution`.
        fallback: see `AtSolution`.
    """

    def __init__(
        self,
        max_products: int = 64,
        cg_tolerance: float = 1e-6,
        damping: float = 0.0,
        tolerance: float = 1e-3,
        fallback: LastSteps | None = None,
    ) -> None:
        super().__init__(tolerance, fallback)
        check_positive(max_products=max_products, cg_tolerance=cg_tolerance)
        check_not_negative(damping=damping)
        self.max_products = max_products
        self.cg_tolerance = cg_tolerance
        self.damping = damping

    def sensitivity(
        self, solver: Solver, problem: Problem, latent: Latent, curvature: Curvature, loss_gradient: Tensor
    ) -> Tensor:
        """Solve the linear system; see `AtSolution.sensitivity`."""
        del solver, problem, latent

        def product(vector: Tensor) -> Tensor:
            return curvature.product(vector) + self.damping * vector

        return conjugate_gradient(product, loss_gradient, self.max_products, self.cg_tolerance, wait_for_all=True)
