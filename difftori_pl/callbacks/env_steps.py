"""Log values at once, over updates or over environment steps, the x axis of curves in reinforcement learning."""

from collections.abc import Mapping

from lightning import LightningModule, Trainer


def log_at(trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float], step: int) -> None:
    """Log values at once, and make them available to checkpoints.

    Lightning's `log` writes only every `log_every_n_steps` updates and drops the values in between.

    Args:
        trainer: its loggers receive the values.
        pl_module: its metrics receive the values.
        values: name -> value.
        step: number of updates, or of environment steps in reinforcement learning.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=step)
    pl_module.log_dict(dict(values), logger=False, batch_size=1)
