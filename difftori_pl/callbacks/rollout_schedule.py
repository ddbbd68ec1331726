"""When to evaluate in training: after epochs, updates or environment steps."""

from lightning import LightningModule, Trainer

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import OnlinePolicy
from difftori_pl.trajopt.solvers.base import check_not_negative


class RolloutSchedule:
    """The intervals between evaluations; 0 for never.

    Args:
        every_n_epochs: in training epochs.
        every_n_train_steps: in updates.
        every_n_env_steps: in environment steps, in reinforcement learning.

    Attributes:
        last_env_step: environment steps after the last batch.
    """

    def __init__(self, every_n_epochs: int, every_n_train_steps: int, every_n_env_steps: int) -> None:
        check_not_negative(
            every_n_epochs=every_n_epochs, every_n_train_steps=every_n_train_steps, every_n_env_steps=every_n_env_steps
        )
        self.every_n_epochs = every_n_epochs
        self.every_n_train_steps = every_n_train_steps
        self.every_n_env_steps = every_n_env_steps
        self.last_env_step = 0
        self._last_update = 0

    @property
    def never(self) -> bool:
        """Whether no evaluation takes place in training."""
        return self.every_n_epochs == self.every_n_train_steps == self.every_n_env_steps == 0

    def check(self, pl_module: LightningModule) -> None:
        """Check that the module counts environment steps if they are used.

        Raises:
            ConfigurationError: it does not.
        """
        if self.every_n_env_steps > 0 and not isinstance(pl_module, OnlinePolicy):
            raise ConfigurationError(
                "every_n_env_steps needs a difftori_pl.models.policy.OnlinePolicy, which counts them, got a "
                f"{type(pl_module).__name__}: set every_n_epochs"
            )

    def due_after_batch(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether updates are at a multiple of their interval, or environment steps have passed one."""
        updated = trainer.global_step != self._last_update
        if self.every_n_train_steps > 0 and updated and trainer.global_step % self.every_n_train_steps == 0:
            return not trainer.fast_dev_run  # type: ignore[attr-defined]
        if self.every_n_env_steps <= 0:
            return False
        assert isinstance(pl_module, OnlinePolicy)
        return pl_module.n_env_steps // self.every_n_env_steps > self.last_env_step // self.every_n_env_steps

    def batch_ended(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember the numbers of updates and of environment steps, after the evaluation."""
        self._last_update = trainer.global_step
        if self.every_n_env_steps > 0:
            assert isinstance(pl_module, OnlinePolicy)
            self.last_env_step = pl_module.n_env_steps

    def due_after_epoch(self, trainer: Trainer) -> bool:
        """Return whether the epoch that ends is a multiple of its interval."""
        due = self.every_n_epochs > 0 and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        return due and not trainer.fast_dev_run  # type: ignore[attr-defined]
