"""Gradients that refuse to be differentiated a second time."""

from typing import Any

import torch
from torch import Tensor


def once(gradient: Tensor, *inputs: Tensor, part: object, instead: str) -> Tensor:
    """Refuse second derivatives of a `gradient` that a backward pass computed without a graph.

    Args:
        gradient: the gradient that the backward pass returns, of any shape.
        inputs: tensors that `gradient` depends on; derivatives with respect to them are refused.
        part: the part of the layer that computed it, for the message.
        instead: name of a part that can be differentiated twice, for the message.

    Raises:
        RuntimeError: in the second backward pass, as with `torch.autograd.function.once_differentiable`.
    """
    if not torch.is_grad_enabled():
        return gradient
    refusing: Tensor = _Once.apply(type(part).__name__, instead, gradient, *inputs)  # type: ignore[no-untyped-call]
    return refusing


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: str, instead: str, gradient: Tensor, *inputs: Tensor) -> Tensor:
        del inputs
        ctx.part, ctx.instead = part, instead
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        del gradients
        raise RuntimeError(
            f"{ctx.part} is differentiable once, got a second derivative (create_graph=True); use {ctx.instead}"
        )
