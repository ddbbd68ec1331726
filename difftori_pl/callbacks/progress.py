"""The progress of a run in one line, instead of Lightning's bar for each epoch."""

import math
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from tqdm import tqdm

from difftori_pl.callbacks.env_steps import EnvStepLimit
from difftori_pl.callbacks.progress_line import ProgressLine
from difftori_pl.callbacks.progress_text import SEPARATOR, SPACING, Speed, duration, number, of_total, speed
from difftori_pl.callbacks.rollout import RolloutEvaluation
from difftori_pl.models.policy import OnlinePolicy


class Progress(ProgressBar):
    """Show steps, results, speed and the time left in one line, on standard error.

    In imitation learning, the steps are updates: `step 1,240/16,000 · loss 0.61 · val error 0.35 · success 62 % ·
    25 it/s · 9 min left`. In reinforcement learning, they are environment steps: `env step 12,400/100,000 · return
    312 · 95 steps/s · 15 min left`. The speed is an average over the last ten minutes that includes evaluations, so
    that it agrees with the time left. Values that are not logged yet are left out.

    On a terminal, the line is replaced in place. Elsewhere, such as in a file, a line is logged every 30 seconds and at
    the end.
    """

    def __init__(self) -> None:
        super().__init__()
        self._enabled = True
        self._line: ProgressLine | None = None
        self._steps = ""
        self._speed = Speed()
        self._started = 0.0
        self._measured = 0.0

    def enable(self) -> None:
        """Show the line."""
        self._enabled = True

    def disable(self) -> None:
        """Hide the line."""
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._line = ProgressLine(not self._enabled, leave=True)
        self._started = time.monotonic()
        self._steps = ""
        self._measure(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Show the line if it is due."""
        del outputs, batch, batch_idx
        self.update(trainer, pl_module)

    def update(self, trainer: Trainer, pl_module: LightningModule, activity: str = "") -> None:
        """Show the line if it is due.

        Args:
            trainer: the trainer.
            pl_module: the module.
            activity: what delays the next step, such as "validation 3/28".
        """
        if self._line is None or not self._enabled:
            return
        due = self._line.due
        if not due and time.monotonic() - self._measured < SPACING:
            return  # the number of environment steps may be on a GPU, which has to be waited for
        steps, done, total, rate = self._measure(trainer, pl_module)
        if due:
            left = min(_seconds_allowed(trainer), (total - done) / rate if rate > 0 else math.inf)
            words = [f"{steps} {of_total(done, total)}", activity, *_results(trainer), self._say(rate)]
            words.append(f"{duration(left)} left" if left < math.inf else "")
            self._line.show(done, total, SEPARATOR.join(filter(None, words)))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show the final state."""
        results = _results(trainer)  # on all ranks, because reading a value may average it over ranks
        if self._line is None:
            return
        steps, done, total, rate = self._measure(trainer, pl_module)
        took = f"took {duration(time.monotonic() - self._started)}"
        words = [f"{steps} {of_total(done, total)}", *results, self._say(rate), took]
        self._line.show(done, total, SEPARATOR.join(filter(None, words)))
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the last state on the terminal, above the error message."""
        del trainer, pl_module, exception
        self._close()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the number of validated batches."""
        del outputs, batch
        if trainer.sanity_checking:
            return
        if trainer.state.fn == "fit":
            n_batches = _of_loader(trainer.num_val_batches, dataloader_idx)
            self.update(trainer, pl_module, f"validation {of_total(batch_idx + 1, n_batches)}")
        else:
            self._evaluate("validation", batch_idx, trainer.num_val_batches, dataloader_idx)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the number of tested batches."""
        del pl_module, outputs, batch
        self._evaluate("test", batch_idx, trainer.num_test_batches, dataloader_idx)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Show the number of predicted batches."""
        del pl_module, outputs, batch
        self._evaluate("prediction", batch_idx, trainer.num_predict_batches, dataloader_idx)

    def print(self, *args: Any, sep: str = " ", **kwargs: Any) -> None:
        """Print above the line."""
        tqdm.write(sep.join(map(str, args)), **kwargs)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the line."""
        del trainer, pl_module, stage
        self._close()

    def _evaluate(self, name: str, batch_idx: int, n_batches: Any, dataloader_idx: int) -> None:
        """Show the progress of a loader outside training, and remove the line after its last batch."""
        if self._line is None:
            self._line = ProgressLine(not self._enabled)
        total = _of_loader(n_batches, dataloader_idx)
        if self._line.due:
            self._line.show(batch_idx + 1, total, f"{name} {of_total(batch_idx + 1, total)} batches")
        if batch_idx + 1 == total:
            self._close()

    def _close(self) -> None:
        if self._line is not None:
            self._line.close()
            self._line = None

    def _measure(self, trainer: Trainer, pl_module: LightningModule) -> tuple[str, float, float, float]:
        """Return the kind of steps, their number, their number at the end, and the speed in steps per second."""
        steps, done, total = _steps(trainer, pl_module)
        now = time.monotonic()
        if steps != self._steps:  # random actions are followed by updates, which are slower
            self._steps, self._speed = steps, Speed()
        self._speed.add(now, done)
        self._measured = now
        return steps, done, total, self._speed.at(now, done)

    def _say(self, rate: float) -> str:
        return speed(rate, "it" if self._steps == "step" else "steps") if rate > 0 else ""


def _steps(trainer: Trainer, pl_module: LightningModule) -> tuple[str, float, float]:
    """Return the kind of steps, their number, and their number at the end; infinite if unknown."""
    limit = _env_step_limit(trainer)
    if limit is not None and isinstance(pl_module, OnlinePolicy):
        env_step = pl_module.n_env_steps
        if env_step == 0:
            return "random env step", limit.n_collected, limit.n_seed_env_steps
        return "env step", env_step, limit.n_env_steps
    total = trainer.estimated_stepping_batches
    return "step", trainer.global_step, math.inf if total == -1 else total


def _env_step_limit(trainer: Trainer) -> EnvStepLimit | None:
    limits = (callback for callback in trainer.callbacks if isinstance(callback, EnvStepLimit))  # type: ignore[attr-defined]
    return next((limit for limit in limits if limit.active), None)


def _results(trainer: Trainer) -> list[str]:
    """Return the latest results, with their names."""
    limit = _env_step_limit(trainer)
    if limit is not None:
        return [] if limit.latest_return is None else [f"return {number(limit.latest_return)}"]
    logged = trainer.callback_metrics
    found = [f"{word} {number(float(logged[name]))}" for word, name in _SHOWN.items() if name in logged]
    # Not the logged success rate: at the end of an epoch, Lightning restores that of the untrained module.
    rates = (callback.success_rate for callback in trainer.callbacks if isinstance(callback, RolloutEvaluation))  # type: ignore[attr-defined]
    return found + [f"success {100 * rate:.0f} %" for rate in rates if rate is not None]


_SHOWN = {"loss": "train/loss", "val error": "val/action_error"}
"""Word in the line -> name of the logged value."""


def _seconds_allowed(trainer: Trainer) -> float:
    """Return the seconds until `Trainer.max_time`; infinite without it."""
    timers = (callback for callback in trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
    return min((left for timer in timers if (left := timer.time_remaining()) is not None), default=math.inf)


def _of_loader(n_batches: Any, dataloader_idx: int) -> float:
    """Return the number of batches of a loader; Lightning lists one for each loader."""
    return n_batches[dataloader_idx] if isinstance(n_batches, list) else n_batches
