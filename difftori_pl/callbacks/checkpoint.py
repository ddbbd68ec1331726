"""Save checkpoints on Lightning's schedule, at the end of training, and on SIGTERM."""

import signal
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor

from difftori_pl.models.policy import Policy

_ROUNDING = 1e-6
"""Relative difference that counts as equal: 26/50 - 23/50 is less than 0.06."""


class Checkpoint(ModelCheckpoint):
    """`ModelCheckpoint` that also saves on SIGTERM and at the end of training.

    With `every_n_train_steps`, Lightning does not save the updates after the last multiple; this class does.

    Lightning handles SIGTERM between two updates, so the state it saves is consistent. Other exceptions may interrupt
    an update and lead to a checkpoint only with `save_on_exception`.

    Several processes save together: after SIGTERM to any of them, all stop after the same update. An exception in only
    one of several processes leads to no checkpoint.

    If `monitor` is a result of rollouts (`rollout/policy/success_rate`, with `mode: max`), `RolloutEvaluation` calls
    `select` after each evaluation, the first one before training. Equal scores keep the earlier checkpoint, so that a
    refinement that never succeeds more often than its base policy ends as that policy. The selected checkpoint is
    `best.ckpt`, unless `filename` is set; `last.ckpt` is saved as usual.

    Args:
        min_gain: smallest difference to the score of the untrained module, in the unit of `monitor`, with which a
            trained one is selected. The best of several evaluations exceeds the untrained module's by chance. Used only
            with results of rollouts.
        args: arguments of `ModelCheckpoint`.
        kwargs: arguments of `ModelCheckpoint`.

    Attributes:
        best_step: number of updates after which the best checkpoint was saved.

    Raises:
        ValueError: if `min_gain` is negative.
    """

    _terminated = False
    _first_score: float | None = None
    best_step = 0

    def __init__(self, *args: Any, min_gain: float = 0.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if min_gain < 0:
            raise ValueError(f"min_gain must be at least 0, not {min_gain}")
        self.min_gain = min_gain

    @property
    def selects_by_rollouts(self) -> bool:
        """Whether `monitor` is a result of rollouts."""
        return self.monitor is not None and self.monitor.startswith("rollout/")

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Name a single monitored checkpoint `best`."""
        if self.monitor is not None and self.save_top_k == 1 and self.filename is None:
            self.filename = "best"
        super().setup(trainer, pl_module, stage)

    def select(self, trainer: Trainer, scores: Mapping[str, float]) -> None:
        """Save a checkpoint if its monitored score is among the best `save_top_k`.

        Args:
            trainer: the trainer.
            scores: results of the rollouts by their logged names, the same on all ranks.
        """
        if self.monitor is None or self.monitor not in scores:  # every episode crashed
            return
        score, best, saved_at = scores[self.monitor], self.best_model_score, self._last_global_step_saved
        if self._first_score is None:
            self._first_score = score
        elif self.min_gain > 0 and self._gain(score) < self.min_gain * (1 - _ROUNDING):
            return
        candidates = self._monitor_candidates(trainer) | {self.monitor: torch.tensor(score)}
        with _as_at_the_end_of_an_epoch(trainer):
            super()._save_topk_checkpoint(trainer, candidates)
        # Otherwise Lightning would take `last.ckpt` for saved, too.
        self._last_global_step_saved = saved_at
        if best is None or self.best_model_score != best:
            self.best_step = trainer.global_step

    def _save_topk_checkpoint(self, trainer: Trainer, monitor_candidates: dict[str, Tensor]) -> None:
        """Leave checkpoints that depend on rollouts to `select`; on Lightning's schedule, only save the last one."""
        if self.selects_by_rollouts:
            self._last_global_step_saved = trainer.global_step
        else:
            super()._save_topk_checkpoint(trainer, monitor_candidates)

    def state_dict(self) -> dict[str, Any]:
        """Add the score of the untrained module and the step of the best checkpoint."""
        return super().state_dict() | {"first_score": self._first_score, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best checkpoints too if the run resumes in another folder; Lightning forgets them."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The dirpath has changed")
            super().load_state_dict(state_dict)
        self._first_score, self.best_step = state_dict.get("first_score"), state_dict.get("best_step", 0)
        if self.monitor is not None and self.dirpath != state_dict.get("dirpath", self.dirpath):
            for name in ("best_model_score", "kth_best_model_path", "kth_value", "best_k_models"):
                setattr(self, name, state_dict[name])

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
        if self.selects_by_rollouts and self.best_model_score is not None and self._first_score is not None:
            rank_zero_info(self._outcome(pl_module, float(self.best_model_score), self._first_score))
        elif saved := (self.best_model_path if self.monitor else self.last_model_path):
            rank_zero_info(f"saved {saved}")

    def _gain(self, score: float) -> float:
        assert self._first_score is not None
        return score - self._first_score if self.mode == "max" else self._first_score - score

    def _outcome(self, pl_module: LightningModule, score: float, first: float) -> str:
        if self.best_step == 0:
            base = isinstance(pl_module, Policy) and "base" in pl_module.reference_policies()
            margin = f" by {self.min_gain:.3g}" if self.min_gain else ""
            return (
                f"training did not improve {self.monitor} = {first:.3g} of the untrained module{margin}, which is "
                + ("selected and acts as its base policy" if base else "selected")
                + f": {self.best_model_path}"
            )
        return (
            f"selected {self.best_model_path}: {self.monitor} = {score:.3g} after {self.best_step} updates, "
            f"{first:.3g} before training"
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the last checkpoint if the exception is a SIGTERM; the selected checkpoint stays as it is."""
        requested, saves_last = self.save_on_exception, self.save_last
        common = trainer.world_size == 1 or isinstance(exception, KeyboardInterrupt)
        self.save_on_exception = (requested and common) or isinstance(exception, SIGTERMException)
        self.save_last = True
        if self._should_save_on_exception(trainer):
            with _as_at_the_end_of_an_epoch(trainer):
                self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))
            rank_zero_info(
                f"stopped after {trainer.global_step} updates, saved {self.last_model_path}: --ckpt_path last resumes"
            )
        self.save_on_exception, self.save_last = requested, saves_last

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
