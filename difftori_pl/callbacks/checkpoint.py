"""Save checkpoints on Lightning's schedule, at the end of training, and on SIGTERM."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Checkpoint(ModelCheckpoint):
    """`ModelCheckpoint` that also saves on SIGTERM and at the end of training.

    With `every_n_train_steps`, Lightning does not save the updates after the last multiple; this class does.

    Lightning handles SIGTERM between two updates, so the state it saves is consistent. Other exceptions may interrupt
    an update and lead to a checkpoint only with `save_on_exception`. The arguments are those of `ModelCheckpoint`.

    Several processes save together: after SIGTERM to any of them, all stop after the same update. An exception in only
    one of several processes leads to no checkpoint.
    """

    _terminated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Correct the epoch count of a resumed run, and delay SIGTERM until the end of an update.

        Lightning 2.6 ends an epoch twice if a run resumes from its end and `max_steps` ends the run; all later epochs
        would then have the order of their successors. On SIGTERM, Lightning 2.6 communicates between processes at
        once, even in the middle of another communication.
        """
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_on_epoch_end:
            _recount_epochs(trainer, "processed", -1)
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._terminate)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save on Lightning's schedule, then stop all processes if one of them received SIGTERM."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.strategy.reduce_boolean_decision(self._terminated, all=False):
            trainer._signal_connector.received_sigterm = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end of a run that uses `every_n_train_steps`."""
        if self._every_n_train_steps and not self._should_skip_saving_checkpoint(trainer):
            with _as_at_the_end_of_an_epoch(trainer):
                candidates = self._monitor_candidates(trainer)
                if self.monitor is None:  # otherwise the monitored value is that of an earlier update
                    self._save_topk_checkpoint(trainer, candidates)
                self._save_last_checkpoint(trainer, candidates)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if the exception is a SIGTERM."""
        requested = self.save_on_exception
        common = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt)
        self.save_on_exception = (requested and common) or isinstance(exception, SIGTERMException)
        with _as_at_the_end_of_an_epoch(trainer):
            super().on_exception(trainer, pl_module, exception)
        self.save_on_exception = requested

    def _terminate(self, *_: Any) -> None:
        self._terminated = True


@contextmanager
def _as_at_the_end_of_an_epoch(trainer: Trainer) -> Iterator[None]:
    """Between two epochs, count the last one as not completed, as Lightning's own checkpoints do.

    From a checkpoint that counts it as completed, Lightning 2.6 would resume with an epoch without batches, and all
    later epochs would have the order of their successors.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    number = int(0 < epochs.completed == epochs.ready)
    _recount_epochs(trainer, "completed", -number)
    try:
        yield
    finally:
        _recount_epochs(trainer, "completed", number)


def _recount_epochs(trainer: Trainer, name: str, number: int) -> None:
    progress = trainer.fit_loop.epoch_progress
    for counts in (progress.current, progress.total):
        setattr(counts, name, getattr(counts, name) + number)
