"""Evaluation without a simulator: the error of the actions on held-out episodes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from datamodules.actions.units import ActionUnits
from datamodules.demonstrations import DemonstrationDataModule
from difftori_pl.callbacks.ema import averaged_weights
from difftori_pl.errors import ConfigurationError
from difftori_pl.evaluation.action_errors import ActionErrors, MeanError, mean_error, write_errors
from difftori_pl.evaluation.run_files import identify_run
from difftori_pl.models.policy import Policy

Recording = tuple[dict[str, Tensor], Tensor]
"""Observations key -> (T, ...) and actions (T, A) of an episode."""


class HeldOutError(Callback):
    """Measure the actions of a policy, and of its base policy, on the recorded observations of held-out episodes.

    At the end of `test`, each policy acts step by step with its memory, as on a robot, but each observation is the
    recorded one. The error of an episode is the root mean square over its steps and components, in the units of the
    data; the error of a rotation is the axis-angle vector between both. Logged and printed are the mean over episodes
    and its 95 % bootstrap interval; steps of one episode are not independent, so the interval is over episodes.
    Without held-out episodes, the training episodes are used. The errors of all episodes are written to the log folder,
    where `difftori share` finds them.

    A small error does not imply success: on a robot, errors change the next observations.

    Args:
        batch_size: number of episodes in which a policy acts at the same time.

    Raises:
        ConfigurationError: `batch_size` is below 1.
    """

    def __init__(self, batch_size: int = 32) -> None:
        if batch_size < 1:
            raise ConfigurationError(f"batch_size must be at least 1, got {batch_size}")
        self.batch_size = batch_size
        self._loaded_step = 0

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Remember after how many updates the checkpoint was saved."""
        del trainer, pl_module
        self._loaded_step = checkpoint.get("global_step", 0)

    @torch.no_grad()
    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Evaluate the module and its reference policies, in the first process only.

        Raises:
            ConfigurationError: the module is not a policy, or the data are not demonstrations.
        """
        data: Any = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, Policy) or not isinstance(data, DemonstrationDataModule):
            raise ConfigurationError(
                f"HeldOutError needs a policy and demonstrations, got {type(pl_module).__name__} and "
                f"{type(data).__name__}: remove it from trainer.callbacks"
            )
        log_dir = trainer.log_dir  # read on every rank: Lightning broadcasts it
        if not trainer.is_global_zero:
            return
        units = ActionUnits.from_interface(data.interface)
        policies = {"policy": pl_module, **pl_module.reference_policies()}
        lines = [
            "",
            "| policy | root mean square error of the actions, in the units of the data (95 %) | episodes |",
            "|---|---|---|",
        ]
        logged: dict[str, float] = {}
        errors: dict[str, list[float]] = {}
        for name, policy in policies.items():
            context = trainer.precision_plugin.forward_context(), averaged_weights(trainer, pl_module)
            with torch.random.fork_rng(), context[0], context[1]:
                torch.manual_seed(0)
                errors[name] = list(self._errors(policy, data, units, pl_module.device))
        methods = {name: policy.describe() for name, policy in policies.items()}
        found = ActionErrors(methods, errors, held_out=data.holds_out)
        for name in policies:
            means = {name: mean_error(errors[name])}
            if name != "policy":
                means[f"policy - {name}"] = found.difference(name)
            for label, mean in means.items():
                lines.append(f"| {label} | {mean} | {len(errors[name])} |")
                logged |= _values(f"held_out/{label.replace(' - ', '_minus_')}/action_error", mean)
        rank_zero_info("\n".join([*lines, ""]))
        if log_dir is not None:
            folder = Path(log_dir)
            write_errors(found, folder, self._loaded_step, identify_run(trainer, folder))
        pl_module.log_dict(logged, rank_zero_only=True, batch_size=1)

    def _errors(
        self, policy: Policy, data: DemonstrationDataModule, units: ActionUnits, device: torch.device
    ) -> Iterator[float]:
        episodes = data.held_out_episodes()
        while group := list(islice(episodes, self.batch_size)):
            actions = _act(policy, [observations for observations, _ in group], device)
            for chosen, (_, demonstrated) in zip(actions, group, strict=True):
                restored = units.restore(chosen[: len(demonstrated)])
                difference = units.difference(restored, demonstrated)
                yield float(difference.double().square().mean().sqrt())


def _act(policy: Policy, episodes: Sequence[dict[str, Tensor]], device: torch.device) -> list[Tensor]:
    """Return the actions (T, A) of each episode; shorter episodes are continued with their last observation."""
    lengths = [len(next(iter(episode.values()))) for episode in episodes]
    state, actions = policy.initial_state(len(episodes)), []
    for step in range(max(lengths)):
        steps = [min(step, length - 1) for length in lengths]
        obs = {
            key: torch.stack([episode[key][at] for episode, at in zip(episodes, steps, strict=True)])[:, None]
            for key in episodes[0]
        }
        action, state = policy.act({key: value.to(device) for key, value in obs.items()}, state)
        actions.append(action.float().cpu())
    return list(torch.stack(actions, dim=1))


def _values(name: str, mean: MeanError) -> dict[str, float]:
    """Return the values to log; a single episode has no interval."""
    interval = {} if math.isinf(mean.low) else {f"{name}_low": mean.low, f"{name}_high": mean.high}
    return {name: mean.mean} | interval
