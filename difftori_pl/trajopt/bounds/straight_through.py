"""Bounds by projecting the iterate, with a loss gradient that can pull actions off their bounds."""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.bounds.projection import Projection
from difftori_pl.trajopt.once import once


class StraightThroughProjection(Projection):
    """`Projection` whose shortened steps still pass the loss gradients that point into the box.

    The exact derivative of a shortened step is zero. An action that hits its bound in every differentiated step then
    gets no gradient, and a network that drives all actions to their bounds cannot recover. Here a gradient is passed
    unchanged if its descent direction points into the box, and set to zero if it points outwards. Inside the box the
    gradient is exact. A shortened step is differentiable once: its gradient is not a true derivative, so a second
    backward pass raises RuntimeError.
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
        # Descent moves against the gradient: a negative gradient moves an action below the box upwards.
        outwards = (below & (gradient > 0)) | (above & (gradient < 0))
        inwards = gradient.masked_fill(outwards, 0.0)
        if torch.is_grad_enabled() and (below | above).any():
            inwards = once(inwards, iterate, part=ctx.bounds, instead="Projection")
        return inwards, None
