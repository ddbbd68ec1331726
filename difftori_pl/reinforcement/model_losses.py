"""Losses of the world model, of its policy and of the critic: Eq. 2 and 3, as in TD-MPC."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from difftori_pl.losses import at_least_float32, consistency, horizon_weights, td_target, value_error
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.world_model import WorldModel

MAX_LOSS = 1e4
"""TD-MPC clips each term of the loss and the priorities to this value."""


@dataclass(frozen=True)
class ModelLosses:
    """Losses on replayed sequences.

    Args:
        discount: γ.
        decay: λ of Eq. 2.
        reward_weight: c1 of Eq. 3.
        value_weight: c2 of Eq. 3, and the weight of the critic's loss.
        consistency_weight: c3 of Eq. 3.
        policy_std: standard deviation of the policy's noise in targets and in the policy's loss.
    """

    discount: float
    decay: float
    reward_weight: float
    value_weight: float
    consistency_weight: float
    policy_std: float

    def model(
        self, world_model: WorldModel, critic: ObservationCritic | None, target: nn.ModuleDict, batch: dict[str, Any]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor], Tensor]:
        """Compute the loss of the world model, without its policy, and of the critic.

        Args:
            world_model: the model being trained.
            critic: the critic being trained; None if it is frozen or absent.
            target: target networks `world_model` and `critic`.
            batch: as from `ReplayDataModule`.

        Returns:
            Predicted latents (B, H + 1, Z), the loss, values to log, and new priorities (B,).
        """
        obs, actions, rewards = batch["obs"], batch["actions"], batch["rewards"]
        now, later = ({key: value[:, part] for key, value in obs.items()} for part in (slice(0, -1), slice(1, None)))
        target_model: Any = target["world_model"]
        with torch.no_grad():
            encoded = target_model.encode(later)
            next_latents = world_model.encode(later).flatten(0, 1)
            next_actions = world_model.act(next_latents, self.policy_std)
            next_values = at_least_float32(target_model.min_value(next_latents, next_actions)).view_as(rewards)
            value_target = td_target(rewards, next_values, batch["terminated"], self.discount)
        latents = [world_model.encode({key: value[:, :1] for key, value in obs.items()})[:, 0]]
        for action in actions.unbind(1):
            latents.append(world_model.next(latents[-1], action))
        predicted = torch.stack(latents, dim=1)
        flat, flat_actions = predicted[:, :-1].flatten(0, 1), actions.flatten(0, 1)
        values = world_model.values(flat, flat_actions).view(-1, *rewards.shape)
        predicted_rewards = at_least_float32(world_model.reward(flat, flat_actions)).view_as(rewards)
        terms = {
            "consistency": (self.consistency_weight, consistency(predicted[:, 1:], encoded)),
            "reward": (self.reward_weight, (predicted_rewards - rewards).square()),
            "value": (self.value_weight, value_error(values, value_target)),
        }
        if critic is not None:
            with torch.no_grad():
                next_values = target["critic"](later, next_actions.view(*rewards.shape, -1)).amin(0)
                critic_target = td_target(rewards, at_least_float32(next_values), batch["terminated"], self.discount)
            terms["critic"] = (self.value_weight, value_error(critic(now, actions), critic_target))
        weights = horizon_weights(rewards.shape[1], self.decay, rewards)
        sums = {name: (weights * term).sum(1).clamp(max=MAX_LOSS) for name, (_, term) in terms.items()}
        per_sequence = sum(weight * sums[name] for name, (weight, _) in terms.items())
        loss = (per_sequence * batch["weights"]).mean() / rewards.shape[1]
        logged = {f"{name}_loss": value.detach().mean() for name, value in sums.items()}
        logged |= {"loss": loss.detach(), "value": value_target.mean()}
        with torch.no_grad():
            errors = (at_least_float32(values) - value_target).abs().sum(0)
            priorities = (weights * errors).sum(1).clamp(max=MAX_LOSS)
        return predicted, loss, logged, priorities

    def policy(self, world_model: WorldModel, latents: Tensor) -> Tensor:
        """Compute the loss of the policy: minus the smaller value at the predicted latents (B, H + 1, Z)."""
        flat = latents.flatten(0, 1)
        value = at_least_float32(world_model.min_value(flat, world_model.act(flat, self.policy_std)))
        weights = horizon_weights(latents.shape[1], self.decay, latents)
        return -(weights * value.view(latents.shape[:2])).sum(1).mean()
