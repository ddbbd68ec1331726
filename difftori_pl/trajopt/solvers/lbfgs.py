"""Projected L-BFGS."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.solvers.line_search import search_line
from difftori_pl.trajopt.tree import per_element


@dataclass(frozen=True)
class LBFGSState(SolverState):
    """Adds the last steps and what they did to the gradient, newest last; zeros where there is none yet.

    Attributes:
        moves: changes of the iterate (B, M, H, A).
        bends: changes of minus the gradient (B, M, H, A).
        reach: length of the next step that knows no curvature (B,).
    """

    moves: Tensor
    bends: Tensor
    reach: Tensor


class LBFGS(StepSolver):
    """Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, Algorithm 7.4) within the bounds.

    Components that push against an active bound are left out of each step, and of the memory that makes it (two-metric
    projection: Bertsekas, SIAM J. Control Optim. 20(2), 1982). The step length is found by `search_line`, so the value
    never falls by more than its rounding, and places where the objective is not finite are avoided.

    It goes to the optimum within a few steps more than Newton's method and without second derivatives. What its
    history and line search do is no smooth function of the problem: it is differentiated at the solution
    (`Implicit`, `DirectLoss`), not through its steps.

    Args:
        max_steps: number of steps.
        memory: number M of past steps that are remembered.
        first_step: length of the first step, in units of the actions; later ones know the curvature.
        n_lengths: step lengths tried in each line search: 1, 1/2, 1/4 and so on.
        grad_tolerance: an element whose gradient norm is below this is done; 0 never stops early.
    """

    # The line search selects one of several lengths.
    steps_differentiable = False

    def __init__(
        self,
        max_steps: int = 30,
        memory: int = 8,
        first_step: float = 0.5,
        n_lengths: int = 10,
        grad_tolerance: float = 0.0,
    ) -> None:
        check_positive(max_steps=max_steps, memory=memory, first_step=first_step, n_lengths=n_lengths)
        check_not_negative(grad_tolerance=grad_tolerance)
        self.max_steps = max_steps
        self.memory = memory
        self.first_step = first_step
        self.n_lengths = n_lengths
        self.grad_tolerance = grad_tolerance

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> LBFGSState:
        """Give the state at the first `iterate` (B, H, A), without a memory yet."""
        start = super().init(problem, latent, iterate)
        empty = start.iterate.new_zeros(len(start.iterate), self.memory, *start.iterate.shape[1:])
        reach = torch.full_like(start.evaluation.value, self.first_step)
        return LBFGSState(start.iterate, start.evaluation, empty, empty, reach)

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> LBFGSState:
        """Go along the quasi-Newton direction as far as the line search says, and remember what came of it."""
        assert isinstance(state, LBFGSState)
        gradient = state.evaluation.gradient
        free = ~problem.bounds.active(state.iterate, gradient)
        direction = self._direction(state, gradient * free, free)
        iterate = search_line(problem, latent, state, direction, self.n_lengths)
        evaluation = problem.evaluate(latent, iterate)
        move, bend = iterate - state.iterate, gradient - evaluation.gradient
        # Where even the shortest step was too long, the next line search goes on from there, without the memory that
        # made it so long.
        stuck = (move == 0).flatten(1).all(dim=1)
        shorter = torch.linalg.vector_norm(direction.flatten(1), dim=1) * 0.5**self.n_lengths
        reach = torch.where(stuck, shorter, state.reach)
        moves, bends = (
            torch.where(per_element(stuck, memory), 0.0, _append(memory, newest))
            for memory, newest in ((state.moves, move), (state.bends, bend))
        )
        return LBFGSState(iterate, evaluation, moves, bends, reach)

    def _direction(self, state: LBFGSState, gradient: Tensor, free: Tensor) -> Tensor:
        """Apply the approximate inverse Hessian of minus the objective, on free components, to the gradient."""
        moves, bends = (memory * free.unsqueeze(1) for memory in (state.moves, state.bends))
        curvature, bend_square = (moves * bends).sum(dim=(2, 3)), bends.square().sum(dim=(2, 3))
        # Only pairs of positive curvature keep the approximation positive definite; empty ones drop out as well.
        used = curvature > torch.finfo(curvature.dtype).eps * bend_square
        inverse = torch.where(used, 1 / torch.where(used, curvature, 1.0), 0.0)

        weights: list[Tensor] = []
        direction = gradient
        for i in reversed(range(self.memory)):
            weight = inverse[:, i] * (moves[:, i] * direction).sum(dim=(1, 2))
            direction = direction - per_element(weight, direction) * bends[:, i]
            weights.insert(0, weight)
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        scale = state.reach / length.clamp(min=torch.finfo(length.dtype).tiny)
        for i in range(self.memory):
            scale = torch.where(used[:, i], curvature[:, i] / torch.where(used[:, i], bend_square[:, i], 1.0), scale)
        direction = per_element(scale, direction) * direction
        for i in range(self.memory):
            weight = weights[i] - inverse[:, i] * (bends[:, i] * direction).sum(dim=(1, 2))
            direction = direction + per_element(weight, direction) * moves[:, i]
        # Components at rest are zero up to here: neither gradient nor memory has any.
        return direction


def _append(memory: Tensor, newest: Tensor) -> Tensor:
    return torch.cat((memory[:, 1:], newest.unsqueeze(1)), dim=1)
