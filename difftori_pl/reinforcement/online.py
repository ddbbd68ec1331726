"""Base class of modules that learn from replayed experience by manual optimisation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from torch import Tensor

from difftori_pl.checkpoints.finite import check_finite
from difftori_pl.checkpoints.hyperparameters import override_hyperparameters
from difftori_pl.checkpoints.provenance import record, verify
from difftori_pl.checkpoints.reading import KEY
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.host_counter import HostCounter
from difftori_pl.models.policy import OnlinePolicy
from difftori_pl.module import check_precision
from difftori_pl.reinforcement.gradient_steps import Scaler
from difftori_pl.reinforcement.random_states import NAMES, begin_random_numbers, random_states
from difftori_pl.skipped_updates import SkippedUpdates

_KNOWN_WARNINGS = (
    # `training_step` takes the iterator on purpose.
    "You are using the `dataloader_iter` step flavor",
    "Found `dataloader_iter` argument",
    # Checkpoints are saved after an update, not during it.
    "Using ModelCheckpoint with manual optimization",
)


class OnlineModule(LightningModule, OnlinePolicy):
    """A policy that learns from the batches of a `ReplayDataModule`.

    A stopped run resumes bit for bit on a CPU: the checkpoint holds the random states of all processes.

    Args:
        action_dim: size A of an action.
        n_steps: number of steps of a training sequence that an update needs.
    """

    env_step: Tensor

    def __init__(self, action_dim: int, n_steps: int) -> None:
        super().__init__()
        for message in _KNOWN_WARNINGS:
            warnings.filterwarnings("ignore", message)
        if _given_hyperparameters.get() is not None:
            self.save_hyperparameters()
        self.automatic_optimization = False
        self.action_dim = action_dim
        self.n_steps = n_steps
        self._skipped_updates = SkippedUpdates()
        self._random: dict[str, Any] = {}
        self._env_step = HostCounter()
        self.register_buffer("env_step", torch.zeros((), dtype=torch.int64))

    @property
    def n_env_steps(self) -> int:
        """The value of `env_step`, from a copy on the host."""
        return self._env_step.read(self.env_step)

    def set_env_step(self, n_env_steps: int) -> None:
        """Set `env_step` and its copy on the host."""
        self._env_step.write(self.env_step, n_env_steps)

    def setup(self, stage: str) -> None:
        """Check the precision and, for training, the datamodule.

        Raises:
            ConfigurationError: there is no datamodule, its sequences are too short, or weights are in half precision.
        """
        check_precision(self.trainer.precision)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "fit" and datamodule is None:
            raise ConfigurationError(
                "training needs a ReplayDataModule, got none: call Trainer.fit(module, datamodule=...)"
            )
        if stage == "fit" and datamodule.horizon < self.n_steps:
            raise ConfigurationError(
                f"training sequences must have at least {self.n_steps} steps, the length that an update needs, got "
                f"{datamodule.horizon}: set data.init_args.horizon to {self.n_steps}"
            )

    def next_batch(self, dataloader_iter: Iterator[Any]) -> dict[str, Any]:
        """Sample the next batch.

        `training_step` takes the iterator instead of a batch, because Lightning would otherwise sample a batch in
        advance: without the newest episodes, and with old priorities.
        """
        batch: dict[str, Any] = self.trainer.strategy.batch_to_device(next(dataloader_iter)[0])
        return batch

    def log_update(self, values: Mapping[str, Tensor], batch_size: int) -> None:
        """Log values under `train/`, over environment steps."""
        logged = {f"train/{name}": value for name, value in values.items()}
        self.log_dict(logged | {"step": self.env_step.float()}, batch_size=batch_size)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Do nothing: `difftori test` evaluates in the environment (the section `rollout`)."""

    @property
    def scaler(self) -> Scaler:
        """The loss scaler of float16 training; None in other precisions."""
        return None if self._trainer is None else getattr(self._trainer.precision_plugin, "scaler", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add provenance, and the random number generators' states of all processes."""
        check_finite(self)
        checkpoint[KEY] = record(self, self.action_dim)
        checkpoint.update(random_states(self.device))

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Verify the checkpoint, and keep its random states for `on_train_start`.

        Raises:
            CheckpointError: the checkpoint belongs to another task or model.
        """
        verify(self, self.action_dim, checkpoint)
        override_hyperparameters(self, checkpoint)
        self._random = {name: checkpoint[name] for name in NAMES if name in checkpoint}

    def on_train_start(self) -> None:
        """Restore the random states of a resumed run; in a new run, seed each process differently."""
        begin_random_numbers(self._random, self.global_rank, self.device)
