"""What a solve returns."""

from dataclasses import dataclass
from enum import IntEnum

import torch
from torch import Tensor

from difftori_pl.trajopt.trace import Trace


class Status(IntEnum):
    """How the solve of one batch element ended."""

    MAX_STEPS = 0
    """All steps were taken."""

    CONVERGED = 1
    """The gradient norm fell below the solver's tolerance; the element stayed where it was."""

    FAILED = 2
    """NaN or infinity in the input, the objective or its gradient; the element stayed at its last good iterate."""

    NOT_STATIONARY = 3
    """The solve ended with a slope too steep for a backward mode that needs a maximum; see its fallback."""


@dataclass(frozen=True)
class Solution:
    """The result of a solve, batch first.

    A failed element has finite actions and no gradient. If the objective was never finite for it, its values and
    gradient norm are NaN, and its actions are the initial ones with 0 in place of NaN and infinity.

    Attributes:
        actions: the last iterate (B, H, A); carries the backward mode's gradient.
        value: the objective at `actions` (B,); carries a gradient as well.
        best_actions: the iterate with the highest objective, the earliest of equals (B, H, A); no gradient.
        best_value: the objective at `best_actions` (B,); no gradient.
        status: a `Status` per element (B,), int64.
        n_steps: steps taken by each element (B,), int64.
        grad_norm: Euclidean norm of the objective's gradient at `actions`, components that push against an active
            bound left out (B,); no gradient.
        initial_value: the objective at the initial actions, brought within the bounds (B,); no gradient.
        trace: every iterate, if it was asked for.
    """

    actions: Tensor
    value: Tensor
    best_actions: Tensor
    best_value: Tensor
    status: Tensor
    n_steps: Tensor
    grad_norm: Tensor
    initial_value: Tensor
    trace: Trace | None = None

    def mark_failed(self, actions: Tensor) -> Tensor:
        """Put NaN in place of the `actions` (B, H, A) of failed elements, so that nothing executes them unnoticed."""
        failed = (self.status == int(Status.FAILED)).view(-1, 1, 1)
        zero = torch.zeros_like(actions)
        return torch.where(failed, zero / zero, actions)  # torch 2.8 cannot export a NaN that is written as a number

    def summary(self) -> dict[str, Tensor]:
        """Give what is worth logging: means over the batch, those of values over the elements that have one."""
        return {
            "failed_fraction": (self.status == int(Status.FAILED)).double().mean(),
            "steps": self.n_steps.double().mean(),
            "grad_norm": self.grad_norm.nanmean(),
            "value_gain": (self.value.detach() - self.initial_value).nanmean(),
        }
