"""The world model of TD-MPC (arXiv:2203.04955): its networks and its losses, Eq. 2 and 3."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from difftori_pl.losses import MAX_LOSS, at_least_float32, consistency, horizon_weights, td_target, value_error
from difftori_pl.models.critics import TwinQ
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.latent_model import LatentModel, LossSettings, ModelLoss
from difftori_pl.models.mlp import mlp
from difftori_pl.models.noisy_actions import noisy
from difftori_pl.models.policy import Observation

NOISE_CLIP = 0.3
"""TD-MPC clips the policy's exploration noise to this absolute value."""


class TDMPC(LatentModel):
    """Encoder h, latent dynamics d, reward R, twin Q and policy π (section 4.2), one method for each.

    The target network is the average of the whole model. Each part can be replaced by a module with the same inputs and
    outputs; None builds that of TD-MPC.

    Args:
        encoder: maps observations to latents.
        action_dim: size A of an action.
        hidden_dim: width of the two hidden layers of each network; 512 in the authors' code.
        dynamics: maps (N, Z + A) to the next latent (N, Z).
        reward: maps (N, Z + A) to rewards (N, 1); its last layer is initialised to zero.
        value: Q, maps (N, Z) and (N, A) to (K, N); its last layer is initialised to zero.
        policy: maps (N, Z) to (N, A), before the tanh.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        hidden_dim: int = 512,
        dynamics: nn.Module | None = None,
        reward: nn.Module | None = None,
        value: nn.Module | None = None,
        policy: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.settings = LossSettings()
        latent_dim, hidden = encoder.latent_dim, (hidden_dim, hidden_dim)
        self.action_dim = action_dim
        self.encoder = encoder
        self.dynamics = dynamics or mlp(latent_dim + action_dim, hidden, latent_dim)
        self.reward_head = reward or mlp(latent_dim + action_dim, hidden, 1)
        self.value = value or TwinQ(latent_dim, action_dim, hidden_dim)
        self.pi = policy or mlp(latent_dim, hidden, action_dim)
        for part in (self.encoder, self.dynamics, self.reward_head, self.value, self.pi):
            part.apply(orthogonal)
        for part in (self.reward_head, self.value):
            zero_last(part)

    def encode(self, obs: Observation) -> Tensor:
        """Apply h: map observations (B, T, ...) to latents (B, T, Z)."""
        latent, _ = self.encoder(obs, {})
        return latent

    def next(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply d: return the next latent (N, Z) after an action (N, A) in [-1, 1]."""
        return self.dynamics(torch.cat([latent, action], dim=-1))

    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply R: return the predicted reward (N,) of an action (N, A) at the latent (N, Z)."""
        return self.reward_head(torch.cat([latent, action], dim=-1)).squeeze(-1)

    def values(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply Q1 and Q2: return the predicted returns (K, N)."""
        return self.value(latent, action)

    def min_value(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the minimum (N,) of Q1 and Q2."""
        return self.values(latent, action).amin(0)

    def plan_value(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the minimum (N,) of Q1 and Q2; see `LatentModel.plan_value`."""
        return self.min_value(latent, action)

    def act(self, latent: Tensor, std: float = 0.0) -> Tensor:
        """Apply π: return actions (N, A) in [-1, 1] for latents (N, Z).

        Args:
            latent: latents (N, Z).
            std: standard deviation of the noise, which is clipped to ±0.3. Gradients pass straight through to the mean.
        """
        mean = torch.tanh(self.pi(latent))
        if std <= 0:
            return mean
        return noisy(mean, std, NOISE_CLIP)

    def sample(self, latent: Tensor, std: float) -> Tensor:
        """Add noise to the policy's actions; see `LatentModel.sample`."""
        return self.act(latent, std)

    def loss(self, target: TDMPC, batch: dict[str, Any], settings: LossSettings) -> ModelLoss:
        """Compute Eq. 3; see `LatentModel.loss`. Each term is clipped, as in TD-MPC."""
        obs, actions, rewards = batch["obs"], batch["actions"], batch["rewards"]
        later = {key: value[:, 1:] for key, value in obs.items()}
        with torch.no_grad():
            encoded = target.encode(later)
            next_latents = self.encode(later).flatten(0, 1)
            next_actions = self.act(next_latents, settings.policy_std)
            next_values = at_least_float32(target.min_value(next_latents, next_actions)).view_as(rewards)
            value_target = td_target(rewards, next_values, batch["terminated"], settings.discount)
        latents = [self.encode({key: value[:, :1] for key, value in obs.items()})[:, 0]]
        for action in actions.unbind(1):
            latents.append(self.next(latents[-1], action))
        predicted = torch.stack(latents, dim=1)
        flat, flat_actions = predicted[:, :-1].flatten(0, 1), actions.flatten(0, 1)
        values = self.values(flat, flat_actions).view(-1, *rewards.shape)
        predicted_rewards = at_least_float32(self.reward(flat, flat_actions)).view_as(rewards)
        terms = {
            "consistency": (settings.consistency_weight, consistency(predicted[:, 1:], encoded)),
            "reward": (settings.reward_weight, (predicted_rewards - rewards).square()),
            "value": (settings.value_weight, value_error(values, value_target)),
        }
        weights = horizon_weights(rewards.shape[1], settings.decay, rewards)
        sums = {name: (weights * term).sum(1).clamp(max=MAX_LOSS) for name, (_, term) in terms.items()}
        per_sequence = torch.stack([weight * sums[name] for name, (weight, _) in terms.items()]).sum(0)
        with torch.no_grad():
            errors = (at_least_float32(values) - value_target).abs().sum(0)
            priorities = (weights * errors).sum(1).clamp(max=MAX_LOSS)
        return ModelLoss(
            value=(per_sequence * batch["weights"]).mean() / rewards.shape[1],
            latents=predicted,
            next_actions=next_actions.view(*rewards.shape, -1),
            priorities=priorities,
            logged={f"{name}_loss": value.detach().mean() for name, value in sums.items()}
            | {"value": value_target.mean()},
        )

    def policy_loss(self, latents: Tensor, settings: LossSettings) -> Tensor:
        """Return minus the smaller value of the policy's actions; see `LatentModel.policy_loss`."""
        flat = latents.flatten(0, 1)
        value = at_least_float32(self.min_value(flat, self.act(flat, settings.policy_std)))
        weights = horizon_weights(latents.shape[1], settings.decay, latents)
        return -(weights * value.view(latents.shape[:2])).sum(1).mean()


def orthogonal(layer: nn.Module) -> None:
    """Initialise weights orthogonally and biases to zero, as in TD-MPC."""
    if isinstance(layer, nn.Linear | nn.Conv2d):
        # ReLUs halve the variance; TD-MPC compensates for it in convolutions.
        nn.init.orthogonal_(layer.weight, nn.init.calculate_gain("relu") if isinstance(layer, nn.Conv2d) else 1.0)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def zero_last(part: nn.Module) -> None:
    """Initialise the last linear layer's weights to zero, so that the network predicts zero at first."""
    last = [layer for layer in part.modules() if isinstance(layer, nn.Linear)][-1:]
    for layer in last:
        nn.init.zeros_(layer.weight)
