"""Gradients taken by hand, and steps along them: averaged over processes, clipped, and in the range of float16."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from datamodules.distributed import mean
from difftori_pl.skipped_updates import SkippedUpdates

Scaler = torch.amp.GradScaler | None
"""What keeps gradients in the range of float16, under `--trainer.precision 16-mixed`; otherwise None."""


def gradients_of(
    loss: Tensor, parameters: Sequence[nn.Parameter], scaler: Scaler, unused: bool = False
) -> list[Tensor]:
    """The gradient of a loss; in float16, taken of so large a multiple that none of it is lost.

    Args:
        loss: a scalar.
        parameters: what to take the gradient with respect to.
        scaler: knows the multiple.
        unused: some parameters have no part in the loss, and get zeros; otherwise that is an error.
    """
    if scaler is None:
        return list(torch.autograd.grad(loss, parameters, materialize_grads=unused))
    found = torch.autograd.grad(scaler.scale(loss), parameters, materialize_grads=unused)
    return list(torch._foreach_div(found, scaler.get_scale()))


def take_step(
    optimizer: Any,
    parameters: Sequence[nn.Parameter],
    gradients: Sequence[Tensor],
    max_norm: float,
    scaler: Scaler,
    skipped: SkippedUpdates,
) -> Tensor:
    """Step along the gradients' mean over processes, clipped to `max_norm`, and return its norm before clipping.

    A step whose gradient is not finite is skipped.

    Raises:
        DivergenceError: too many consecutive gradients were not finite.
    """
    gradients = mean(gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    admitted = skipped.admits(norm)
    if scaler is not None and isinstance(optimizer, LightningOptimizer):
        # Lightning divides by the scale, skips a step that is not finite, and searches for a better scale.
        torch._foreach_mul_(gradients, scaler.get_scale())
    elif not admitted:
        optimizer.zero_grad(set_to_none=True)
    optimizer.step()  # even without gradients, as Lightning counts the calls
    optimizer.zero_grad(set_to_none=True)
    return norm
