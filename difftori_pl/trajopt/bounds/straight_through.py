"""Bounds kept by projecting the iterate, with a gradient for actions that rest on a bound but should not."""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.bounds.projection import Projection
from difftori_pl.trajopt.once import once


class StraightThroughProjection(Projection):
    """`Projection` forwards; backwards, a step that it cut short still passes the gradient that asks for the inside.

    The exact derivative there is zero: an action that the solver throws against its bound in every differentiated
    step could never be learned away from it, and a network that once does so for all actions stays so for good. Here
    gradient descent on the loss is told to pull such an action back in; what would push it further out stays zero.
    Inside the box the gradient is exact. A step that was cut short is differentiable once: its gradient is no true
    derivative, so a second backward pass raises RuntimeError.
    """

    def project(self, iterate: Tensor) -> Tensor:
        """Clamp the `iterate` (B, H, A)."""
        clamped: Tensor = _Clamp.apply(iterate, self)  # type: ignore[no-untyped-call]
        return clamped


class _Clamp(torch.autograd.Function):
    @staticmethod
    def forward(iterate: Tensor, bounds: Projection) -> Tensor:
        return iterate.clamp(bounds.low, bounds.high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Projection], output: Tensor) -> None:
        iterate, ctx.bounds = inputs
        ctx.save_for_backward(iterate)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,), (iterate,) = gradients, ctx.saved_tensors
        below, above = iterate < ctx.bounds.low, iterate > ctx.bounds.high
        # Descent moves against the gradient: a negative one asks an action below the box to grow.
        outwards = (below & (gradient > 0)) | (above & (gradient < 0))
        inwards = gradient.masked_fill(outwards, 0.0)
        if torch.is_grad_enabled() and (below | above).any():
            inwards = once(inwards, iterate, part=ctx.bounds, instead="Projection")
        return inwards, None
