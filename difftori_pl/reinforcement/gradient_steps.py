"""Gradients and optimiser steps for manual optimisation: process averaging, clipping and float16 loss scaling."""

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn

from datamodules.distributed import mean
from difftori_pl.checkpoints.hyperparameters import RELATIVE_RATE
from difftori_pl.skipped_updates import SkippedUpdates

Scaler = torch.amp.GradScaler | None
"""The loss scaler under `--trainer.precision 16-mixed`; otherwise None."""


def build_optimizer(
    make: OptimizerCallable, parameters: Sequence[nn.Parameter], slow: Sequence[nn.Parameter], rate: float
) -> torch.optim.Optimizer:
    """Build an optimiser in which some parameters have another learning rate.

    Args:
        make: builds an optimiser from parameters.
        parameters: all parameters.
        slow: those with another learning rate; others than `parameters` are ignored.
        rate: their learning rate, relative to that of the others; with 1, all parameters are in one group.
    """
    if rate == 1.0:
        return make(list(parameters))
    chosen = set(slow)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p not in chosen], RELATIVE_RATE: 1.0},
        {"params": [p for p in parameters if p in chosen], RELATIVE_RATE: rate},
    ]
    optimizer = make(groups)
    for group in optimizer.param_groups:
        group["lr"] *= group[RELATIVE_RATE]
    return optimizer


def gradients_of(
    loss: Tensor, parameters: Sequence[nn.Parameter], scaler: Scaler, unused: bool = False
) -> list[Tensor]:
    """Compute the gradient of a loss. In float16 the loss is scaled up first, so that small gradients do not underflow.

    Args:
        loss: a scalar.
        parameters: the parameters to differentiate with respect to.
        scaler: holds the scale of the loss; None for no scaling.
        unused: return zeros for parameters that the loss does not depend on; if false, they raise an error.

    Returns:
        The unscaled gradients, one per parameter.
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
    """Average the gradients over processes, clip them to `max_norm`, take an optimiser step and return the norm.

    The norm is the one before clipping. A step whose gradient is not finite is skipped.

    Raises:
        DivergenceError: too many consecutive gradients were not finite.
    """
    gradients = mean(gradients)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    admitted = skipped.admits(norm)
    if scaler is not None and isinstance(optimizer, LightningOptimizer):
        # Lightning divides by the scale, skips a step that is not finite, and adjusts the scale.
        torch._foreach_mul_(gradients, scaler.get_scale())
    elif not admitted:
        optimizer.zero_grad(set_to_none=True)
    optimizer.step()  # called even without gradients, because Lightning counts the calls
    optimizer.zero_grad(set_to_none=True)
    return norm
