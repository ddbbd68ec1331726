"""Environment steps as the limit of a run, and as the x axis of curves in reinforcement learning."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from lightning import Callback, LightningModule, Trainer


class EnvStepLimit(Callback, ABC):
    """Base class of callbacks that end a run after a number of environment steps; the progress line shows its counts.

    Attributes:
        n_env_steps: total number of environment steps.
        n_seed_env_steps: number of these with random actions.
        latest_return: undiscounted return of the last episode; None before the first.
    """

    n_env_steps: int
    n_seed_env_steps: int
    latest_return: float | None = None

    @property
    @abstractmethod
    def active(self) -> bool:
        """Whether the run is limited by environment steps."""

    @property
    @abstractmethod
    def n_collected(self) -> int:
        """Number of environment steps so far."""

    @property
    @abstractmethod
    def n_updates(self) -> float:
        """Number of updates until the end of the run."""


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
