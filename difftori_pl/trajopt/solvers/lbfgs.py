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
    """Adds the last M steps and changes of the gradient, newest last; unused entries are zero.

    Attributes:
        s: changes of the iterate (B, M, H, A).
        y: changes of minus the gradient (B, M, H, A).
        first_length: length of the next step if the memory is empty (B,).
    """

    s: Tensor
    y: Tensor
    first_length: Tensor


class LBFGS(StepSolver):
    """Limited-memory BFGS (Nocedal and Wright, Numerical Optimization, Algorithm 7.4) within the bounds.

    Components that push against an active bound are left out of each step and of the memory used for it (two-metric
    projection: Bertsekas, SIAM J. Control Optim. 20(2), 1982). `search_line` chooses the step length. The value
    therefore never falls by more than its rounding error, and points with a non-finite objective are rejected.

    Reaches the optimum in a few steps more than Newton's method, without second derivatives. Steps are not a smooth
    function of the problem because of the history and the line search, so the gradient is taken at the solution
    (`Implicit`, `DirectLoss`), not through the steps.

    Args:
        max_steps: number of steps.
        memory: number M of past steps that are stored.
        first_step: length of the first step, in units of the actions; later steps use the curvature.
        n_lengths: step lengths tried in each line search: 1, 1/2, 1/4 and so on.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
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
        """Return the state at the first `iterate` (B, H, A), with an empty memory."""
        start = super().init(problem, latent, iterate)
        empty = start.iterate.new_zeros(len(start.iterate), self.memory, *start.iterate.shape[1:])
        first_length = torch.full_like(start.evaluation.value, self.first_step)
        return LBFGSState(start.iterate, start.evaluation, empty, empty, first_length)

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> LBFGSState:
        """Search along the quasi-Newton direction and update the memory."""
        assert isinstance(state, LBFGSState)
        gradient = state.evaluation.gradient
        free = ~problem.bounds.active(state.iterate, gradient)
        direction = self._direction(state, gradient * free, free)
        iterate = search_line(problem, latent, state, direction, self.n_lengths)
        evaluation = problem.evaluate(latent, iterate)
        s, y = iterate - state.iterate, gradient - evaluation.gradient
        # If even the shortest length failed, the next search continues with shorter steps and an empty memory.
        stuck = (s == 0).flatten(1).all(dim=1)
        shorter = torch.linalg.vector_norm(direction.flatten(1), dim=1) * 0.5**self.n_lengths
        return LBFGSState(
            iterate,
            evaluation,
            s=torch.where(per_element(stuck, state.s), 0.0, _append(state.s, s)),
            y=torch.where(per_element(stuck, state.y), 0.0, _append(state.y, y)),
            first_length=torch.where(stuck, shorter, state.first_length),
        )

    def _direction(self, state: LBFGSState, gradient: Tensor, free: Tensor) -> Tensor:
        """Multiply the gradient by the approximate inverse of minus the Hessian, on free components."""
        s, y = state.s * free.unsqueeze(1), state.y * free.unsqueeze(1)
        s_y, y_y = (s * y).sum(dim=(2, 3)), y.square().sum(dim=(2, 3))
        # Only pairs of positive curvature keep the approximation positive definite; this also skips empty entries.
        used = s_y > torch.finfo(s_y.dtype).eps * y_y
        rho = torch.where(used, 1 / torch.where(used, s_y, 1.0), 0.0)
        curvature = s_y / torch.where(used, y_y, 1.0)

        alphas: list[Tensor] = []
        direction = gradient
        for i in reversed(range(self.memory)):
            alpha = rho[:, i] * (s[:, i] * direction).sum(dim=(1, 2))
            direction = torch.addcmul(direction, per_element(alpha, direction), y[:, i], value=-1)
            alphas.insert(0, alpha)
        length = torch.linalg.vector_norm(gradient.flatten(1), dim=1)
        scale = state.first_length / length.clamp(min=torch.finfo(length.dtype).tiny)
        for i in range(self.memory):
            scale = torch.where(used[:, i], curvature[:, i], scale)
        direction = per_element(scale, direction) * direction
        for i in range(self.memory):
            beta = rho[:, i] * (y[:, i] * direction).sum(dim=(1, 2))
            direction = torch.addcmul(direction, per_element(alphas[i] - beta, direction), s[:, i])
        # Blocked components stay zero, because gradient, s and y are zero there.
        return direction


def _append(memory: Tensor, newest: Tensor) -> Tensor:
    return torch.cat((memory[:, 1:], newest.unsqueeze(1)), dim=1)
