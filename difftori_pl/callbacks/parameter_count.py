"""Print the number of parameters in one line instead of Lightning's table."""

from lightning import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info


class ParameterCount(Callback):
    """Log the number of trained and of frozen parameters, and the device."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        counts = dict.fromkeys((True, False), 0)
        for parameter in pl_module.parameters():
            counts[parameter.requires_grad] += parameter.numel()
        devices = f"{trainer.strategy.root_device}" + (f", {trainer.world_size} processes" * (trainer.world_size > 1))
        rank_zero_info(
            f"{type(pl_module).__name__}: {counts[True]:,} parameters trained, {counts[False]:,} frozen ({devices})"
        )
