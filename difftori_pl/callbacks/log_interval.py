"""The interval of logged scalars in short runs."""

import logging
import math

from lightning import Callback, LightningModule, Trainer

from difftori_pl.callbacks.env_steps import EnvStepLimit

_log = logging.getLogger(__name__)


class LogInterval(Callback):
    """Log the scalars of every update in a run with fewer updates than Lightning's interval.

    Lightning logs every 50th update, so that a shorter run would log no scalar of its training.

    Args:
        given: `Trainer.log_every_n_steps` if the user set it, which is not changed; else None.
    """

    def __init__(self, given: int | None = None) -> None:
        self.given = given

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compare the interval with the number of updates of this run."""
        del pl_module
        n_updates = _n_updates(trainer)
        if n_updates >= trainer.log_every_n_steps or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if self.given is None:
            trainer.log_every_n_steps = 1  # type: ignore[attr-defined]
        elif trainer.is_global_zero:
            _log.warning(
                "trainer.log_every_n_steps is %d, but this run has only %d updates: no scalar of training is logged; "
                "lower it to log some",
                self.given,
                n_updates,
            )


def _n_updates(trainer: Trainer) -> float:
    """Return the number of updates until the end of the run; infinite if it is not limited."""
    total = trainer.estimated_stepping_batches
    left = math.inf if total in (-1, math.inf) else total - trainer.global_step
    limits = [callback for callback in trainer.callbacks if isinstance(callback, EnvStepLimit) and callback.active]  # type: ignore[attr-defined]
    return min([left, *(limit.n_updates for limit in limits)])
