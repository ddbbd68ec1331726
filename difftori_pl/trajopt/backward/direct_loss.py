"""The gradient of the solution by direct loss minimisation."""

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
    """Tilt the objective along the loss gradient v and measure how far its maximum moves.

    With a± = argmax G(a) ± ε v·a, (a₊ − a₋) / 2ε is u up to O(ε²) (direct loss minimisation: Hazan, Keshet and
    McAllester, NeurIPS 2010; also a backward mode of Theseus). Each backward pass takes two solves that start from the
    solution. No linear system is solved, so a singular Hessian is not a problem. The two solves take all `max_steps` of
    the solver and ignore its `grad_tolerance`. If they do not reach the tilted maxima, the gradient is too small.

    Differs from the mode of Theseus in two points: the difference is central, and ∂g/∂θ is exact instead of a finite
    difference.

    Args:
        epsilon: approximate distance that the maximum moves to either side, in units of the iterate. The tilt is scaled
            by the curvature along v to achieve it, so the scale of the objective does not matter.
        tolerance: see `AtSolution`.
        fallback: see `AtSolution`.
    """

    def __init__(self, epsilon: float = 1e-2, tolerance: float = 1e-3, fallback: LastSteps | None = None) -> None:
        super().__init__(tolerance, fallback)
        check_positive(epsilon=epsilon)
        self.epsilon = epsilon

    def excludes(self, solver: Solver) -> str | None:
        """Also exclude solvers that cannot maximise a tilted objective; see `AtSolution.excludes`."""
        if not solver.tiltable:
            return self._refusal(solver, "it cannot maximise a tilted objective; choose Implicit or another solver")
        return super().excludes(solver)

    def sensitivity(
        self, solver: Solver, problem: Problem, latent: Latent, curvature: Curvature, loss_gradient: Tensor
    ) -> Tensor:
        """Solve the two tilted problems; see `AtSolution.sensitivity`."""
        with torch.enable_grad():
            point = curvature.point.detach().requires_grad_()
            (slope,) = torch.autograd.grad(problem.bounds.to_actions(point).sum(), point)
        by_actions = torch.where(slope == 0, 0.0, loss_gradient / slope)
        norm = torch.linalg.vector_norm(loss_gradient.flatten(1), dim=1).clamp(min=torch.finfo(slope.dtype).tiny)
        direction = loss_gradient / per_element(norm, loss_gradient)
        curvature_norm = torch.linalg.vector_norm(curvature.product(direction).flatten(1), dim=1)
        # If the objective is flat along v or its curvature is not finite, no tilt gives a defined distance.
        curvature_norm = torch.where((curvature_norm > 0) & (curvature_norm < torch.inf), curvature_norm, 1.0)
        scale = per_element(self.epsilon * curvature_norm / norm, by_actions)
        ends = []
        for sign in (1.0, -1.0):
            tilted = _Tilted(problem.objective, problem.bounds, tilt=sign * scale * by_actions)
            loop = run(solver, tilted, latent, curvature.point.detach(), 0, rest_when_done=False)
            ends.append(loop.state.iterate)
        return (ends[0] - ends[1]) / (2 * scale) * curvature.free


@dataclass(frozen=True, kw_only=True)
class _Tilted(Problem):
    """A problem whose objective has the linear term `tilt` (B, H, A) · actions.

    The term uses actions, not the iterate, because an iterate may be unbounded.
    """

    tilt: Tensor

    def value(self, latent: Latent, iterate: Tensor) -> Tensor:
        # A line search evaluates several iterates per element at once.
        tilt = self.tilt.repeat_interleave(len(iterate) // len(self.tilt), dim=0)
        return super().value(latent, iterate) + (tilt * self.bounds.to_actions(iterate)).sum(dim=(1, 2))
