"""The gradient of the solution by solving again, with the loss on the scales."""

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.trajopt.backward.at_solution import AtSolution
from difftori_pl.trajopt.backward.last_steps import LastSteps, run
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Curvature, Problem
from difftori_pl.trajopt.solvers.base import Solver, check_positive
from difftori_pl.trajopt.tree import per_element


class DirectLoss(AtSolution):
    """Let the loss gradient v tilt the objective, and see where its maximum goes.

    With a± = argmax G(a) ± ε v·a, (a₊ − a₋) / 2ε is u up to O(ε²) (direct loss minimisation: Hazan, Keshet and
    McAllester, NeurIPS 2010; as a backward mode in Theseus). Each backward pass is two solves that start from the
    solution; no linear system is solved, and a singular Hessian does no harm. The solver must reach the tilted maxima:
    one that stops short, stops short here.

    Differs from the mode in Theseus in the central difference, and in taking ∂g/∂θ exactly rather than by a difference
    as well.

    Args:
        epsilon: how far the maximum may go to either side for a curvature of one, in units of the actions.
        tolerance: see `AtSolution`.
        fallback: see `AtSolution`.
    """

    def __init__(self, epsilon: float = 1e-2, tolerance: float = 1e-3, fallback: LastSteps | None = None) -> None:
        super().__init__(tolerance, fallback)
        check_positive(epsilon=epsilon)
        self.epsilon = epsilon

    def sensitivity(
        self, solver: Solver, problem: Problem, latent: Latent, curvature: Curvature, loss_gradient: Tensor
    ) -> Tensor:
        """Solve the two tilted problems; see `AtSolution.sensitivity`."""
        with torch.enable_grad():
            point = curvature.point.detach().requires_grad_()
            (slope,) = torch.autograd.grad(problem.bounds.to_actions(point).sum(), point)
        by_actions = torch.where(slope == 0, 0.0, loss_gradient / slope)
        norm = torch.linalg.vector_norm(by_actions.flatten(1), dim=1)
        scale = per_element(self.epsilon / norm.clamp(min=torch.finfo(norm.dtype).tiny), by_actions)
        ends = []
        with torch.no_grad():
            for sign in (1.0, -1.0):
                tilted = _Tilted(problem.objective, problem.bounds, tilt=sign * scale * by_actions)
                ends.append(run(solver, tilted, latent, curvature.point.detach(), 0).state.iterate)
        return (ends[0] - ends[1]) / (2 * scale) * curvature.free


@dataclass(frozen=True, kw_only=True)
class _Tilted(Problem):
    """A problem whose objective rises by `tilt` (B, H, A) per unit of the actions: an iterate may know no bounds."""

    tilt: Tensor

    def value(self, latent: Latent, iterate: Tensor) -> Tensor:
        # A line search evaluates several iterates of an element at once.
        tilt = self.tilt.repeat_interleave(len(iterate) // len(self.tilt), dim=0)
        return super().value(latent, iterate) + (tilt * self.bounds.to_actions(iterate)).sum(dim=(1, 2))
