"""Draw the objectives of prior samples for one held-out state during training (Figure 5)."""

from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from datamodules.batch import Batch
from difftori_pl.callbacks.spacing import Spacing
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.il import DiffTORIIL
from difftori_pl.imitation.multimodality import sample_solutions
from difftori_pl.trajopt import draw_landscape
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive


class LandscapeImages(Callback):
    """Draw the objective and the optimiser's path for several samples of the prior, and count the modes they reach.

    The state is the last step of a held-out window, the same window each time. Images are written to TensorBoard and,
    as PNG, to the folder `landscapes` of the log. `multimodality/n_modes` logs the number of distinct solutions.

    Args:
        every_n_epochs: draw during validation every `every_n_epochs` epochs.
        n_samples: number of samples of the prior.
        window: index of the window in the first validation batch.
        temperature: standard deviation of the samples.
        spacing: draw again only once the number of updates has grown by this fraction; 0 draws every time.
    """

    def __init__(
        self,
        every_n_epochs: int = 10,
        n_samples: int = 4,
        window: int = 0,
        temperature: float = 1.0,
        spacing: float = 0.1,
    ) -> None:
        check_positive(every_n_epochs=every_n_epochs, n_samples=n_samples)
        check_not_negative(window=window, temperature=temperature, spacing=spacing)
        self.every_n_epochs = every_n_epochs
        self.n_samples = n_samples
        self.window = window
        self.temperature = temperature
        self._spacing = Spacing(spacing)

    def state_dict(self) -> dict[str, Any]:
        """Return the step of the last images."""
        return {"last": self._spacing.last}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the step of the last images."""
        self._spacing.last = state_dict["last"]

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse a module without a prior to sample."""
        del trainer, stage
        if not isinstance(pl_module, DiffTORIIL):
            raise ConfigurationError(
                f"LandscapeImages expected a DiffTORIIL as model, got a {type(pl_module).__name__}: remove it from "
                "trainer.callbacks"
            )

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw after the first batch, on the first rank."""
        del outputs, dataloader_idx
        due = (trainer.current_epoch + 1) % self.every_n_epochs == 0 and not trainer.sanity_checking
        if batch_idx > 0 or not due or not self._spacing.due(trainer.global_step):
            return
        log_dir = trainer.log_dir  # read once, on every rank: Lightning broadcasts it
        if not trainer.is_global_zero or log_dir is None:
            return
        assert isinstance(pl_module, DiffTORIIL)
        window = self.window % len(batch["actions"])
        obs = {key: value[window : window + 1] for key, value in batch["obs"].items()}
        found = sample_solutions(pl_module, obs, pl_module.initial_state(1), self.n_samples, self.temperature)
        folder = Path(log_dir) / "landscapes"
        folder.mkdir(parents=True, exist_ok=True)
        for logger in trainer.loggers:
            logger.log_metrics({"multimodality/n_modes": found.n_modes}, trainer.global_step)
        for number, view in enumerate(found.landscapes):
            figure = draw_landscape(view)
            figure.savefig(folder / f"step{trainer.global_step}_sample{number}.png")
            for logger in trainer.loggers:
                if isinstance(logger, TensorBoardLogger):
                    logger.experiment.add_figure(f"landscape/sample{number}", figure, trainer.global_step)
