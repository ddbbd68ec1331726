"""Iterates recorded during a solve."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Trace:
    """Iterates recorded during a solve; NaN after the last step of an element.

    Attributes:
        actions: the start and the iterate after each step (B, T + 1, H, A), where T is the solver's `max_steps`; no
            gradient.
        values: the objective at `actions` (B, T + 1); no gradient.
    """

    actions: Tensor
    values: Tensor

    @classmethod
    def empty(cls, iterate: Tensor, max_steps: int) -> Trace:
        """Return an empty trace for iterates shaped like `iterate` (B, H, A)."""
        actions = iterate.new_full((len(iterate), max_steps + 1, *iterate.shape[1:]), torch.nan)
        return cls(actions, actions[:, :, 0, 0].clone())

    def record(self, n_steps: Tensor, iterate: Tensor, value: Tensor) -> Trace:
        """Return the trace with the `iterate` (B, H, A) and its `value` (B,) stored at step `n_steps` (B,)."""
        here = n_steps.unsqueeze(1) == torch.arange(self.values.shape[1], device=n_steps.device)
        return Trace(
            torch.where(here.view(*here.shape, 1, 1), iterate.detach().unsqueeze(1), self.actions),
            torch.where(here, value.detach().unsqueeze(1), self.values),
        )
