"""The result of a solve."""

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
    """The gradient norm fell below the solver's tolerance; the element took no further steps."""

    FAILED = 2
    """The input, the objective or its gradient held NaN or infinity; the result is the last finite iterate."""

    NOT_STATIONARY = 3
    """The final gradient is too large for a backward mode that differentiates at a maximum; see its fallback."""


@dataclass(frozen=True)
class Solution:
    """The result of a solve, batch first.

    A failed element has finite actions and no gradient. If its objective was never finite, its values and gradient norm
    are NaN, and its actions are the initial ones with NaN and infinity replaced by 0.

    Attributes:
        actions: the last iterate (B, H, A), with the backward mode's gradient.
        value: the objective at `actions` (B,), with a gradient.
        best_actions: the iterate with the highest objective, the earliest in a tie (B, H, A); no gradient.
        best_value: the objective at `best_actions` (B,); no gradient.
        status: a `Status` per element (B,), int64.
        n_steps: steps taken by each element (B,), int64.
        grad_norm: Euclidean norm of the objective's gradient at `actions` (B,), without components that push against
            an active bound; no gradient.
        initial_value: the objective at the initial actions after these are brought within the bounds (B,); no gradient.
        trace: every iterate, or None if no trace was requested.
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
        """Replace the `actions` (B, H, A) of failed elements by NaN, so that they are not executed unnoticed."""
        failed = (self.status == int(Status.FAILED)).view(-1, 1, 1)
        zero = torch.zeros_like(actions)
        return torch.where(failed, zero / zero, actions)  # torch 2.8 cannot export a NaN constant

    def summary(self) -> dict[str, Tensor]:
        """Return quantities for logging, averaged over the batch; NaN entries are left out of the averages."""
        return {
            "failed_fraction": (self.status == int(Status.FAILED)).double().mean(),
            "steps": self.n_steps.double().mean(),
            "grad_norm": self.grad_norm.nanmean(),
            "value_gain": (self.value.detach() - self.initial_value).nanmean(),
        }
