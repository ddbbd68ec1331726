"""How far to go along a direction: all step lengths are tried in one batch."""

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState
from difftori_pl.trajopt.tree import per_element, repeat

SUFFICIENT_INCREASE = 1e-4
"""Armijo's constant: the fraction of the increase promised by the gradient that a step must deliver."""


def search_line(problem: Problem, latent: Latent, state: SolverState, direction: Tensor, n_lengths: int) -> Tensor:
    """Give the iterate (B, H, A) after the longest of the steps 1, 1/2, 1/4, ... that raises the value enough.

    Enough is Armijo's condition along the projected path (Bertsekas, IEEE TAC 21(2), 1976), less the rounding of the
    value: near an optimum the value no longer tells steps apart, and the direction is to be trusted. An element for
    which no length will do stays where it is. Values that are not finite never count as raised.

    Args:
        problem: what to maximise.
        latent: what the objective is conditioned on (B, Z).
        state: where to start from.
        direction: the longest step (B, H, A).
        n_lengths: how many lengths are tried.
    """
    lengths = 0.5 ** torch.arange(n_lengths, dtype=direction.dtype, device=direction.device).view(1, -1, 1, 1)
    start = state.iterate.unsqueeze(1)
    ends = problem.bounds.project(start + lengths * direction.unsqueeze(1))
    values = problem.value(repeat(latent, n_lengths), ends.flatten(0, 1)).view(-1, n_lengths)
    promised = ((ends - start) * state.evaluation.gradient.unsqueeze(1)).sum(dim=(2, 3))
    value = state.evaluation.value.unsqueeze(1)
    rounding = 10 * torch.finfo(value.dtype).eps * value.abs()
    raised = (values >= value + SUFFICIENT_INCREASE * promised - rounding) & (promised >= 0) & torch.isfinite(values)
    longest = raised.int().argmax(dim=1).view(-1, 1, 1, 1).expand(-1, 1, *direction.shape[1:])
    end = ends.gather(1, longest).squeeze(1)
    return torch.where(per_element(raised.any(dim=1), end), end, state.iterate)
