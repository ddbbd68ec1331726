"""Base class of the imitation modules, and the check of the trainer's precision."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from lightning import LightningModule
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.mixins.hparams_mixin import _given_hyperparameters
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from datamodules.actions.scaling import KEY as ACTION_SCALING
from datamodules.actions.scaling import described
from datamodules.actions.units import UNCHANGED
from datamodules.batch import Batch, DataModule
from difftori_pl.checkpoints.finite import check_finite
from difftori_pl.checkpoints.hyperparameters import override_hyperparameters
from difftori_pl.checkpoints.provenance import record, verify
from difftori_pl.checkpoints.reading import KEY
from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import masked_mean
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.encoders.base import check_observations
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.models.policy import Policy
from difftori_pl.skipped_updates import SkippedUpdates


def check_precision(precision: str) -> None:
    """Reject training with half-precision weights, in which most updates are lost to rounding.

    Args:
        precision: precision of the trainer.

    Raises:
        ConfigurationError: the weights would be in half precision; the message names the mixed precision to use.
    """
    if precision in ("16-true", "bf16-true"):
        raise ConfigurationError(
            f"weights are trained in float32, got trainer.precision {precision}: use "
            f"--trainer.precision={precision.replace('true', 'mixed')}"
        )


class ImitationModule(LightningModule, Policy):
    """Base class of modules that are trained on windows of demonstrations.

    The random numbers of a training step depend only on the seed, the process, the epoch and the batch, so that a
    resumed run draws the same numbers as an uninterrupted one. Updates with a gradient that is not finite are skipped.

    Args:
        action_dim: size A of an action; it must equal that of the datamodule.
        optimizer: makes the optimiser from the trainable parameters.
        lr_scheduler: makes the scheduler from the optimiser; it advances once per training step. None for a constant
            rate.
    """

    def __init__(
        self, action_dim: int, optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None = None
    ) -> None:
        super().__init__()
        # A module built from YAML has hyperparameters of plain values. The arguments of a module built in Python are
        # modules and functions, which are not saved, because pickled objects cannot be loaded safely.
        if _given_hyperparameters.get() is not None:
            self.save_hyperparameters()
        self.action_dim = action_dim
        self.interface: dict[str, Any] = {}
        self.optimizer = optimizer
        self.lr_scheduler = lr_scheduler
        self._seed: int | None = None
        self._validation: dict[str, float] | None = None
        self._validated_step: int | None = None
        self._skipped_updates = SkippedUpdates()

    def setup(self, stage: str) -> None:
        """Fit new normalisers to the data, and reject data that do not match the fitted ones.

        Raises:
            ConfigurationError: observations or actions differ in size or meaning from those that the module, or its
                base policy, was built for or trained on.
        """
        check_precision(self.trainer.precision)
        datamodule: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        normalizers = {name: part for name, part in self.named_modules() if isinstance(part, Normalizer)}
        if datamodule is None:
            unfitted = [name for name, part in normalizers.items() if not part.fitted]
            if stage == "fit" and unfitted:
                raise ConfigurationError(
                    f"expected a datamodule, for the statistics of {unfitted[0]}; got none: pass `datamodule=` to "
                    "Trainer.fit, or call the `fit` method of each Normalizer before training"
                )
            return
        if not isinstance(datamodule, DataModule):
            raise ConfigurationError(
                f"imitation learning needs a datamodules.batch.DataModule, which states what it delivers, got a "
                f"{type(datamodule).__name__}: derive it from datamodules.demonstrations.DemonstrationDataModule"
            )
        self.check_interface("data", datamodule.interface)
        self.interface = self.interface or dict(datamodule.interface)
        check_observations(
            self,
            datamodule.obs_specs,
            "the data deliver",
            "add it to data.init_args.obs_keys or image_keys, set the encoder's sizes to those of the data, or use an "
            "encoder (or a base policy) that does not read it",
        )
        if datamodule.action_dim != self.action_dim:
            raise ConfigurationError(
                f"the model expects actions of {self.action_dim} numbers, got data with {datamodule.action_dim} "
                "per action: set data.init_args.action_dim, or the action_dim of the policy (model.init_args.policy, "
                "or model.init_args.base_policy if that is not a trained policy)"
            )
        if stage == "fit":
            for part in self.modules():
                if isinstance(part, BasePolicy):
                    part.check_data(datamodule)
            statistics = datamodule.statistics() if normalizers else {}
            for name, part in normalizers.items():
                if not part.fitted:
                    part.fit(statistics)
                elif mismatch := part.mismatch(statistics):
                    policy = name.split(".")[0]
                    raise ConfigurationError(
                        f"{policy} was trained on {mismatch}: are these the same units? Convert the data, or train "
                        f"{policy} on them"
                    )

    def check_interface(self, other: str, interface: Mapping[str, Any]) -> None:
        """Reject data or an environment whose observations or actions differ in meaning from those in training.

        The checkpoint stores the interface of the training data (controller, frame of the points, ...). The interface
        of a base policy comes from its checkpoint.

        Args:
            other: name for the message, such as "data".
            interface: interface of the data or environment; only names that both sides define are compared.

        Raises:
            ConfigurationError: the interfaces disagree.
        """
        for policy, known in self._interfaces().items():
            for name in sorted(known.keys() & interface.keys()):
                if known[name] != interface[name]:
                    show = described if name == ACTION_SCALING else repr
                    raise ConfigurationError(
                        f"{policy} was trained with {name} {show(known[name])}, but the {other} has "
                        f"{show(interface[name])}: {_advice(name)}"
                    )

    def _interfaces(self) -> dict[str, dict[str, Any]]:
        """Return the interface that each part of the module was trained with."""
        parts = {name: part.interface for name, part in self.named_modules() if isinstance(part, BasePolicy)}
        return {"the policy": self.interface} | {name: known for name, known in parts.items() if known}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the interface, and describe policies that were loaded from files by their parts.

        Resuming then does not require the files.
        """
        check_finite(self)
        checkpoint[KEY] = record(self, self.action_dim) | {"validation": self._validation_errors()}
        checkpoint["interface"] = self.interface
        checkpoint["seed"] = self._seed
        for name, part in self.named_modules():
            if isinstance(part, BasePolicy) and part.config is not None and "hyper_parameters" in checkpoint:
                *path, last = name.split(".")
                owner = checkpoint["hyper_parameters"]
                for word in path:
                    owner = owner[word]["init_args"]
                owner[last] = part.config

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the interface, and reject data that disagree with it.

        Raises:
            CheckpointError: the checkpoint is of another task or model.
            ConfigurationError: the data disagree with the interface.
        """
        verify(self, self.action_dim, checkpoint)
        override_hyperparameters(self, checkpoint)
        self._seed = checkpoint.get("seed")
        self._validation = checkpoint.get(KEY, {}).get("validation")
        self.interface = {**UNCHANGED, **checkpoint.get("interface", {})}
        datamodule = None if self._trainer is None else self._trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(datamodule, DataModule):
            self.check_interface("data", datamodule.interface)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build one optimiser over the parameters that require a gradient, and its scheduler."""
        optimizer = self.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        if self.lr_scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": self.lr_scheduler(optimizer), "interval": "step"}}

    def on_fit_start(self) -> None:
        """Store the seed of the run, unless it comes from a checkpoint, and reject a schedule that ends too early.

        Raises:
            ConfigurationError: a cosine schedule ends before the run, so that the learning rate would rise again.
        """
        if self._seed is None:
            self._seed = torch.initial_seed()
        for config in self.trainer.lr_scheduler_configs:
            scheduler = config.scheduler
            if isinstance(scheduler, CosineAnnealingLR) and 0 < scheduler.T_max < self.trainer.max_steps:
                raise ConfigurationError(
                    f"the learning rate reaches its minimum after {scheduler.T_max} updates and would rise again, but "
                    f"the run has {self.trainer.max_steps}: set --model.lr_scheduler.T_max {self.trainer.max_steps}"
                )

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed the random numbers of this step."""
        del batch
        numbers = [self._seed or 0, self.global_rank, self.current_epoch, batch_idx]
        torch.manual_seed(int(np.random.SeedSequence(numbers).generate_state(1)[0]))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Skip an update whose gradient is not finite.

        Gradients have already been averaged over processes, so that all processes skip the same updates.

        Raises:
            DivergenceError: too many consecutive gradients were not finite.
        """
        del optimizer
        gradients = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        if self._skipped_updates.admits(torch.nn.utils.get_total_norm(gradients)):
            return
        for parameter in self.parameters():
            parameter.grad = None
        self.log("train/skipped_updates", float(self._skipped_updates.count))

    @abstractmethod
    def evaluate(self, stage: str, batch: Batch) -> None:
        """Log the metrics of a batch of held-out demonstrations.

        Args:
            stage: `val` or `test`, the prefix of the logged names.
            batch: windows of demonstrations.
        """

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate on held-out demonstrations."""
        del batch_idx
        self.evaluate("val", batch)

    def on_validation_epoch_end(self) -> None:
        """Remember after how many updates the module was validated; the values are complete after this hook."""
        if not self.trainer.sanity_checking:
            self._validated_step = self.trainer.global_step

    def _validation_errors(self) -> dict[str, float] | None:
        """Return `step` and the action errors of the last validation; None before the first one."""
        if self._validated_step is not None:
            metrics = self.trainer.callback_metrics
            names = [name for name in ("action_error", "base_action_error") if f"val/{name}" in metrics]
            self._validation = {"step": self._validated_step} | {name: float(metrics[f"val/{name}"]) for name in names}
        return self._validation

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Evaluate on test demonstrations."""
        del batch_idx
        self.evaluate("test", batch)

    def log_step(self, stage: str, batch_size: int, **values: Tensor) -> None:
        """Log scalars under `stage/`: per step in training, averaged over the epoch and over ranks otherwise."""
        training = stage == "train"
        self.log_dict(
            {f"{stage}/{name}": value for name, value in values.items()},
            batch_size=batch_size,
            on_step=training,
            on_epoch=not training,
            sync_dist=not training,
        )

    def mean_of_real(self, values: Tensor, mask: Tensor) -> Tensor:
        """Average `values` (B, T) over the steps where `mask` (B, T) is true, with equal weight in all processes.

        DDP averages gradients over processes. The average of the returned values is the mean over the steps of all
        processes. An average of per-process means would give more weight to steps of processes with more padding.
        """
        if self._trainer is None or self.trainer.world_size == 1:
            return masked_mean(values, mask)
        count = self.trainer.strategy.reduce(mask.sum(dtype=torch.get_default_dtype()), reduce_op="mean")
        return masked_mean(values, mask, count.clamp(min=1.0 / self.trainer.world_size))


def _advice(name: str) -> str:
    if name != ACTION_SCALING:
        return "use the same one, or train again"
    return (
        "set data.init_args.action_scaling and action_margin as in that training, and use its data (path, n_demos, "
        "split), to which the scaling was fitted, or train again"
    )
