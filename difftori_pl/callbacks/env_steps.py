"""Logging over environment steps, the x axis of everything in reinforcement learning."""

from collections.abc import Mapping

from lightning import LightningModule, Trainer


def log_at(trainer: Trainer, pl_module: LightningModule, values: Mapping[str, float], env_step: int) -> None:
    """Log now, and show in the progress bar and to checkpoints.

    Lightning's own `log` keeps values until `log_every_n_steps` updates are done, and drops those between.

    Args:
        trainer: its loggers are used.
        pl_module: its metrics are.
        values: name -> value.
        env_step: number of environment steps so far.
    """
    for logger in trainer.loggers:
        logger.log_metrics(dict(values), step=env_step)
    pl_module.log_dict(dict(values), logger=False, batch_size=1)
