"""Projected Adam."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_not_negative, check_positive
from difftori_pl.trajopt.tree import per_element


@dataclass(frozen=True)
class AdamState(SolverState):
    """Adds Adam's running means.

    Attributes:
        mean: running mean of the gradient (B, H, A).
        square: running mean of its square (B, H, A).
        n_steps: steps taken (B,).
    """

    mean: Tensor
    square: Tensor
    n_steps: Tensor


class Adam(StepSolver):
    """Ascend by Adam (Kingma and Ba, arXiv:1412.6980), projecting each step onto the bounds.

    A step has length of about `learning_rate` in each component for any scale of the objective. The rate decays
    linearly; with a constant rate the iterates would oscillate around the optimum. The last steps are the shortest and
    carry little of the gradient, so prefer `Unroll` to `Truncated` with this solver.

    Differs from the paper in `epsilon`, which is added in quadrature: otherwise the square root has an infinite slope
    where a gradient component is zero.

    Args:
        max_steps: number of steps.
        learning_rate: initial step size, in units of the actions.
        final_learning_rate: step size to which it decays, reached after the last step.
        beta_1: decay rate of the running mean of the gradient.
        beta_2: decay rate of the running mean of its square.
        epsilon: gradient components well below this count as zero. There a differentiated step multiplies the loss
            gradient by learning_rate / epsilon: for a learned score that is initially flat, use about 1e-2.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
    """

    def __init__(
        self,
        max_steps: int = 20,
        learning_rate: float = 0.1,
        final_learning_rate: float = 0.0,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        grad_tolerance: float = 0.0,
    ) -> None:
        check_positive(max_steps=max_steps, learning_rate=learning_rate, epsilon=epsilon)
        check_not_negative(final_learning_rate=final_learning_rate, grad_tolerance=grad_tolerance)
        if not (0 <= beta_1 < 1 and 0 <= beta_2 < 1):
            raise ConfigurationError(f"beta_1 and beta_2 must be in [0, 1), got {beta_1} and {beta_2}")
        self.max_steps = max_steps
        self.learning_rate = learning_rate
        self.final_learning_rate = final_learning_rate
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.grad_tolerance = grad_tolerance

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> AdamState:
        """Return the state at the first `iterate` (B, H, A), with zero means."""
        start = super().init(problem, latent, iterate)
        zero = torch.zeros_like(start.iterate)
        return AdamState(start.iterate, start.evaluation, zero, zero, torch.zeros_like(start.evaluation.value))

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> AdamState:
        """Take one step with bias-corrected means and project the iterate."""
        assert isinstance(state, AdamState)
        gradient, n_before = state.evaluation.gradient, state.n_steps.detach()
        n_steps = n_before + 1
        mean = torch.lerp(state.mean, gradient, 1 - self.beta_1)
        square = torch.addcmul(self.beta_2 * state.square, gradient, gradient, value=1 - self.beta_2)
        remaining = (1 - n_before / self.max_steps).clamp(min=0)
        rate = self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * remaining
        # The correction of the mean's bias is part of the rate (B,), where it costs less than in the direction.
        rate = rate / (1 - self.beta_1**n_steps)
        unbiased_square = square / per_element(1 - self.beta_2**n_steps, square)
        # A sum with a number as small as epsilon ** 2 would be dropped when the policy is exported to ONNX.
        direction = mean / unbiased_square.clamp(min=self.epsilon**2).sqrt()
        moved = torch.addcmul(state.iterate, per_element(rate, direction), direction)
        iterate = problem.bounds.project(moved)
        return AdamState(iterate, problem.evaluate(latent, iterate), mean, square, n_steps)
