"""Backtracking line search that evaluates all step lengths in one batch."""

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState
from difftori_pl.trajopt.tree import per_element, repeat

SUFFICIENT_INCREASE = 1e-4
"""Armijo's constant: the fraction of the increase predicted by the gradient that a step must achieve."""


def search_line(problem: Problem, latent: Latent, state: SolverState, direction: Tensor, n_lengths: int) -> Tensor:
    """Return the iterate (B, H, A) after the longest of the steps 1, 1/2, 1/4, ... that raises the value sufficiently.

    Sufficient means Armijo's condition along the projected path (Bertsekas, IEEE TAC 21(2), 1976), relaxed by the
    rounding error of the value: near an optimum, differences between values are below that error. If no length
    satisfies it, the element does not move. Values that are not finite never satisfy it.

    Args:
        problem: the problem to maximise.
        latent: input of the objective (B, Z).
        state: state to start from.
        direction: the longest step (B, H, A).
        n_lengths: number of step lengths.
    """
    lengths = 0.5 ** torch.arange(n_lengths, dtype=direction.dtype, device=direction.device).view(1, -1, 1, 1)
    start = state.iterate.unsqueeze(1)
    ends = problem.bounds.project(start + lengths * direction.unsqueeze(1))
    values = problem.value(repeat(latent, n_lengths), ends.flatten(0, 1)).view(-1, n_lengths)
    predicted = ((ends - start) * state.evaluation.gradient.unsqueeze(1)).sum(dim=(2, 3))
    value = state.evaluation.value.unsqueeze(1)
    rounding = 10 * torch.finfo(value.dtype).eps * value.abs()
    raised = (values >= value + SUFFICIENT_INCREASE * predicted - rounding) & (predicted >= 0) & torch.isfinite(values)
    longest = raised.int().argmax(dim=1).view(-1, 1, 1, 1).expand(-1, 1, *direction.shape[1:])
    end = ends.gather(1, longest).squeeze(1)
    return torch.where(per_element(raised.any(dim=1), end), end, state.iterate)
