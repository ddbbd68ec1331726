"""Bounds kept by projecting the iterate, with a gradient for actions that rest on a bound but should not."""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.bounds.projection import Projection


class StraightThroughProjection(Projection):
    """`Projection` forwards; backwards, a step that it cut short still passes the gradient that asks for the inside.

    The exact derivative there is zero: an action that the solver throws against its bound in every differentiated
    step could never be learned away from it, and a network that once does so for all actions stays so for good. Here
    gradient descent on the loss is told to pull such an action back in; what would push it further out stays zero.
    Inside the box the gradient is exact.
    """

    def project(self, iterate: Tensor) -> Tensor:
        """Clamp the `iterate` (B, H, A)."""
        clamped: Tensor = _Clamp.apply(iterate, self.low, self.high)  # type: ignore[no-untyped-call]
        return clamped


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(iterate: Tensor, low: float, high: float) -> Tensor:
        return iterate.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        iterate, low, high = inputs
        ctx.save_for_backward(iterate < low, iterate > high)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        below, above = ctx.saved_tensors
        # Descent moves against the gradient: a negative one asks an action below the box to grow.
        outwards = (below & (gradient > 0)) | (above & (gradient < 0))
        return gradient.masked_fill(outwards, 0.0), None, None
