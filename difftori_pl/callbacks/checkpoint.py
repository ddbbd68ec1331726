"""When checkpoints are saved: as Lightning does, when training ends, and before a cluster takes the machine away."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException


class Checkpoint(ModelCheckpoint):
    """`ModelCheckpoint` that saves on SIGTERM too, and what training ends with.

    Of a run that saves every so many updates, Lightning keeps those, and not what was learned after the last of them.

    Lightning answers SIGTERM between two updates, so that what is saved then is whole; other exceptions may come in the
    middle of one, and are saved only if `save_on_exception` asks for it. Takes the arguments of `ModelCheckpoint`.

    Several processes save together. They stop after the same update, whichever of them SIGTERM reaches first; an
    exception that one process meets alone is not saved.
    """

    _terminated = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let SIGTERM wait for the end of an update, where Lightning 2.6 exchanges something at once, amid others.

        Before that, have a run that goes on from the end of an epoch count that epoch once: Lightning 2.6 ends it again
        if `max_steps` is what ends the run, and would shuffle all that follow as their successors.
        """
        super().on_train_start(trainer, pl_module)
        if trainer.fit_loop.restarted_on_epoch_end:
            _recount_epochs(trainer, "processed", -1)
        if trainer.world_size > 1:
            signal.signal(signal.SIGTERM, self._terminate)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """As Lightning does; then have all processes stop if one is to."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if trainer.strategy.reduce_boolean_decision(self._terminated, all=False):
            trainer._signal_connector.received_sigterm = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the end of a run that saves every so many updates; see above."""
        if self._every_n_train_steps and not self._should_skip_saving_checkpoint(trainer):
            with _as_at_the_end_of_an_epoch(trainer):
                candidates = self._monitor_candidates(trainer)
                if self.monitor is None:  # what was monitored is of an earlier update
                    self._save_topk_checkpoint(trainer, candidates)
                self._save_last_checkpoint(trainer, candidates)
        super().on_train_end(trainer, pl_module)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save if the exception is a SIGTERM."""
        asked = self.save_on_exception
        common = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt)
        self.save_on_exception = (asked and common) or isinstance(exception, SIGTERMException)
        with _as_at_the_end_of_an_epoch(trainer):
            super().on_exception(trainer, pl_module, exception)
        self.save_on_exception = asked

    def _terminate(self, *_: Any) -> None:
        self._terminated = True


@contextmanager
def _as_at_the_end_of_an_epoch(trainer: Trainer) -> Iterator[None]:
    """Between two epochs, let the last one count as Lightning's own checkpoints have it: not completed.

    Lightning 2.6 goes on from such a checkpoint; from one that counts the epoch as completed it goes on with an epoch
    without batches, and all that follow have the order of their successors.
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
