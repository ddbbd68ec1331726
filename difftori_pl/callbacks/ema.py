"""Exponential moving average of the weights, as used for diffusion policies."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class ExponentialMovingAverage(WeightAveraging):
    """Validate, save and deploy an exponential moving average of the weights, whose decay grows during training.

    After n updates the decay is `1 - (1 + n) ** -power`, at most `max_decay`: the schedule of Diffusion Policy.
    The weights of a checkpoint are the average; it also holds the current weights, which resuming needs. Rollouts use
    the average too.

    Args:
        max_decay: largest decay; 0.9999 in Diffusion Policy.
        power: exponent of the warm-up; 0.75 in Diffusion Policy.
    """

    def __init__(self, max_decay: float = 0.9999, power: float = 0.75) -> None:
        super().__init__(avg_fn=self._average)
        self.max_decay = max_decay
        self.power = power

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Restore the average and the current weights if training resumes; otherwise load only the average."""
        if self._average_model is not None:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)

    def _average(self, averaged: Tensor, current: Tensor, n_averaged: Tensor | int) -> Tensor:
        if not averaged.is_floating_point():
            return current
        decay = min(self.max_decay, 1.0 - (1.0 + float(n_averaged)) ** -self.power)
        return torch.lerp(current, averaged, decay)


@contextmanager
def averaged_weights(trainer: Trainer, pl_module: LightningModule) -> Iterator[None]:
    """Give the module its averaged weights for a while, if a callback averages them during training."""
    averages = [
        callback
        for callback in trainer.callbacks  # type: ignore[attr-defined]
        if isinstance(callback, WeightAveraging) and callback._average_model is not None
    ]
    for callback in averages if trainer.training else ():
        callback._swap_models(pl_module)
    try:
        yield
    finally:
        for callback in averages if trainer.training else ():
            callback._swap_models(pl_module)
