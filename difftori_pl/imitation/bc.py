"""Behaviour cloning."""

from collections.abc import Mapping

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.losses import masked_mean
from difftori_pl.models.base_policies import LearnedPolicy
from difftori_pl.models.policy import Observation, Policy, State
from difftori_pl.module import ImitationModule


class BehaviorCloning(ImitationModule):
    """Train a `LearnedPolicy` on demonstrations with the loss that it defines.

    Args:
        policy: the policy to train.
        optimizer: Adam at 3e-4 by default (Table 7).
        lr_scheduler: None for a constant rate.
    """

    def __init__(
        self,
        policy: LearnedPolicy,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=3e-4),
        lr_scheduler: LRSchedulerCallable | None = None,
    ) -> None:
        super().__init__(policy.action_dim, optimizer, lr_scheduler)
        self.policy = policy

    def reference_policies(self) -> Mapping[str, Policy]:
        """Return the frozen policies to compare with this one, on the same initial states."""
        return self.policy.reference_policies()

    def describe(self) -> str:
        """Return the name of the trained policy; see `Policy.describe`."""
        return self.policy.describe()

    def initial_state(self, batch_size: int) -> State:
        """See `Policy.initial_state`."""
        return self.policy.initial_state(batch_size)

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """See `Policy.act`."""
        return self.policy.act(obs, state)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the imitation loss, averaged over the real steps."""
        del batch_idx
        loss = self.mean_of_real(
            self.policy.training_loss(batch["obs"], batch["actions"], batch["demo"]), batch["mask"]
        )
        self.log_step("train", len(batch["actions"]), loss=loss)
        return loss

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return actions (B, T, A) for every step of the windows."""
        actions, _ = self.policy.propose(batch["obs"], 1, self.initial_state(len(batch["actions"])))
        return actions[:, :, 0]

    def evaluate(self, stage: str, batch: Batch) -> None:
        """Log the imitation loss and the squared error of the executed action; see `ImitationModule.evaluate`."""
        loss = masked_mean(self.policy.loss(batch["obs"], batch["actions"]), batch["mask"])
        error = (self.predict_step(batch, 0) - batch["actions"]).square().sum(-1)
        self.log_step(stage, len(batch["actions"]), loss=loss, action_error=masked_mean(error, batch["mask"]))
