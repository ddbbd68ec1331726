"""The world model of TD-MPC2 (arXiv:2310.16828): its predictions and its losses."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.distributed import mean
from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import at_least_float32, consistency, horizon_weights, td_target
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.latent_model import LatentModel, LossSettings, ModelLoss
from difftori_pl.models.policy import Observation
from difftori_pl.models.symlog_bins import SymlogBins
from difftori_pl.models.td_mpc import zero_last
from difftori_pl.models.td_mpc2_networks import QEnsemble, SimNorm, initialise, normed_mlp


class TDMPC2(LatentModel):
    """Encoder h, latent dynamics d, reward R, ensemble Q and stochastic policy π of TD-MPC2.

    Latents are vectors of simplices (`SimNorm`); all hidden layers are Linear, LayerNorm and Mish. Reward and value are
    distributions over bins (`SymlogBins`). Only Q has a target network. Targets are the minimum of two random networks
    of the ensemble; the policy's loss uses the mean of two.

    Differences from the official code: A plan ends with the mean of the whole ensemble at the policy's mean action, so
    that the objective is the same in all steps of a solver. A plan is discounted by the predicted probability that the
    task has not ended, which has a gradient, and not by whether it exceeds one half. The optimisers of model and policy
    have the same epsilon.

    Args:
        encoder: first part of h. From the state, `StateEncoder` with `latent_dim: null`, which only concatenates.
        action_dim: size A of an action.
        latent_dim: size Z of a latent.
        encoder_dims: hidden layers between the output of `encoder` and the latent.
        hidden_dim: width of the two hidden layers of the other networks.
        simplex_dim: number of components of each simplex; divides `latent_dim`.
        n_values: number K of networks in Q.
        dropout: probability in the first layer of Q; only in losses.
        n_bins: number of bins of reward and value.
        max_symlog: symlog of the largest reward or value that can be represented.
        entropy_weight: weight of the policy's entropy in its loss.
        min_log_std: smallest logarithm of the policy's standard deviation.
        max_log_std: largest logarithm of the policy's standard deviation.
        scale_rate: weight of a batch in the running scale of the values in the policy's loss.
        episode_steps: length of an episode in agent steps, which determines the discount (`discount_of`).
        episodic: learn when the task ends. Needed only for tasks with terminal states.
        termination_weight: weight of the termination loss.

    Raises:
        ConfigurationError: `simplex_dim` does not divide `latent_dim`, or Q has fewer than two networks.
    """

    encoder_rate = 0.3
    scale: Tensor

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        latent_dim: int = 512,
        encoder_dims: Sequence[int] = (256,),
        hidden_dim: int = 512,
        simplex_dim: int = 8,
        n_values: int = 5,
        dropout: float = 0.01,
        n_bins: int = 101,
        max_symlog: float = 10.0,
        entropy_weight: float = 1e-4,
        min_log_std: float = -10.0,
        max_log_std: float = 2.0,
        scale_rate: float = 0.01,
        episode_steps: int = 500,
        episodic: bool = False,
        termination_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if latent_dim % simplex_dim:
            raise ConfigurationError(
                f"latent_dim must be a multiple of simplex_dim, got {latent_dim} and {simplex_dim}: change one of them"
            )
        if n_values < 2:
            raise ConfigurationError(f"n_values must be at least 2, because targets use two networks, got {n_values}")
        self.settings = LossSettings(discount_of(episode_steps), reward_weight=0.1, consistency_weight=20.0)
        self.action_dim, self.entropy_weight, self.scale_rate = action_dim, entropy_weight, scale_rate
        self.min_log_std, self.max_log_std = min_log_std, max_log_std
        self.episodic, self.termination_weight = episodic, termination_weight
        both, hidden = latent_dim + action_dim, (hidden_dim, hidden_dim)
        self.encoder = encoder
        self.project = normed_mlp(encoder.latent_dim, encoder_dims, latent_dim, SimNorm(simplex_dim))
        self.dynamics = normed_mlp(both, hidden, latent_dim, SimNorm(simplex_dim))
        self.reward_head = normed_mlp(both, hidden, n_bins)
        self.pi = normed_mlp(latent_dim, hidden, 2 * action_dim)
        self.termination_head = normed_mlp(latent_dim, hidden, 1) if episodic else None
        self.apply(initialise)
        zero_last(self.reward_head)
        self.value = QEnsemble(both, hidden_dim, n_bins, n_values, dropout)
        self.bins = SymlogBins(n_bins, max_symlog)
        self.register_buffer("scale", torch.ones(()))

    @property
    def averaged(self) -> nn.Module:
        """Q; see `LatentModel.averaged`."""
        return self.value

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of both parts of h; see `LatentModel.encoder_parameters`."""
        return [*self.encoder.parameters(), *self.project.parameters()]

    def encode(self, obs: Observation) -> Tensor:
        """Apply h: map observations (B, T, ...) to latents (B, T, Z)."""
        features, _ = self.encoder(obs, {})
        return self.project(features)

    def next(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply d: return the next latent (N, Z) after an action (N, A) in [-1, 1]."""
        return self.dynamics(torch.cat([latent, action], dim=-1))

    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply R: return the expected reward (N,) of an action (N, A) at the latent (N, Z)."""
        return self.bins.decode(self.reward_head(torch.cat([latent, action], dim=-1)))

    def values(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply Q: return the expected returns (K, N) of all networks, without dropout."""
        return self.bins.decode(self.value(torch.cat([latent, action], dim=-1)))

    def plan_value(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the mean (N,) of all networks; see `LatentModel.plan_value`."""
        return self.values(latent, action).mean(0)

    def act(self, latent: Tensor) -> Tensor:
        """Apply π without noise: return actions (N, A) in [-1, 1] for latents (N, Z)."""
        return torch.tanh(self.gaussian(latent)[0])

    def sample(self, latent: Tensor, std: float = 0.0) -> Tensor:
        """Draw actions (N, A) in [-1, 1] from π for latents (N, Z); `std` is not used, because π predicts it."""
        del std
        mean, log_std = self.gaussian(latent)
        return torch.tanh(mean + log_std.exp() * torch.randn_like(mean))

    def gaussian(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and logarithm of the standard deviation (N, A) of π before the tanh."""
        mean, spread = at_least_float32(self.pi(latent)).chunk(2, dim=-1)
        half = 0.5 * (self.max_log_std - self.min_log_std)
        return mean, self.min_log_std + half * (torch.tanh(spread) + 1.0)

    def continuation(self, latent: Tensor) -> Tensor:
        """Return the probability (N,) that the task has not ended; see `LatentModel.continuation`."""
        return torch.sigmoid(-self._termination(latent)) if self.episodic else super().continuation(latent)

    def loss(self, target: QEnsemble, batch: dict[str, Any], settings: LossSettings) -> ModelLoss:
        """Compute the losses of consistency, reward, value and termination; see `LatentModel.loss`."""
        obs, actions, rewards = batch["obs"], batch["actions"], batch["rewards"]
        with torch.no_grad():
            encoded = self.encode({key: value[:, 1:] for key, value in obs.items()})
            next_actions = self.sample(encoded.flatten(0, 1)).view(*rewards.shape, -1)
            pair = self._two_networks(rewards)
            next_values = self.bins.decode(target(torch.cat([encoded, next_actions], -1).flatten(0, 1), pair)).amin(0)
            value_target = td_target(rewards, next_values.view_as(rewards), batch["terminated"], settings.discount)
        latents = [self.encode({key: value[:, :1] for key, value in obs.items()})[:, 0]]
        for action in actions.unbind(1):
            latents.append(self.next(latents[-1], action))
        predicted = torch.stack(latents, dim=1)
        inputs = torch.cat([predicted[:, :-1], actions], dim=-1).flatten(0, 1)
        logits = self.value(inputs, dropout=True).unflatten(1, rewards.shape)
        weights = horizon_weights(rewards.shape[1], settings.decay, rewards)
        reward_error = self.bins.cross_entropy(self.reward_head(inputs), rewards.flatten()).view_as(rewards)
        terms = {
            "consistency": (settings.consistency_weight, weights * consistency(predicted[:, 1:], encoded)),
            "reward": (settings.reward_weight, weights * reward_error),
            "value": (settings.value_weight, weights * self.bins.cross_entropy(logits, value_target).mean(0)),
        }
        if self.episodic:
            ended = self._termination(predicted[:, 1:].flatten(0, 1)).view_as(rewards)
            error = F.binary_cross_entropy_with_logits(ended, batch["terminated"].to(ended.dtype), reduction="none")
            terms["termination"] = (self.termination_weight, error)
        sums = {name: term.sum(1) for name, (_, term) in terms.items()}
        per_sequence = torch.stack([weight * sums[name] for name, (weight, _) in terms.items()]).sum(0)
        with torch.no_grad():
            errors = (self.bins.decode(logits) - value_target).abs().mean(0)
        return ModelLoss(
            value=(per_sequence * batch["weights"]).mean() / rewards.shape[1],
            latents=predicted,
            next_actions=next_actions,
            priorities=(weights * errors).sum(1),
            logged={f"{name}_loss": value.detach().mean() for name, value in sums.items()}
            | {"value": value_target.mean(), "value_scale": self.scale.clone()},
        )

    def policy_loss(self, latents: Tensor, settings: LossSettings) -> Tensor:
        """Return minus the scaled value and the entropy of the policy, and update the scale.

        The scale is the running range from the 5th to the 95th percentile of the values, at least 1. The entropy is
        that before the tanh, multiplied by the number of action components, as in the official code.
        """
        flat = latents.flatten(0, 1)
        mean_action, log_std = self.gaussian(flat)
        noise = torch.randn_like(mean_action)
        inputs = torch.cat([flat, torch.tanh(mean_action + log_std.exp() * noise)], dim=-1)
        values = self.bins.decode(self.value(inputs, self._two_networks(flat), dropout=True)).mean(0)
        values = values.view(latents.shape[:2])
        self._update_scale(values[:, 0].detach())
        log_density = (-0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)).sum(-1)
        entropy = -self.action_dim * log_density.view_as(values)
        weights = horizon_weights(latents.shape[1], settings.decay, values)
        return -(weights * (self.entropy_weight * entropy + values / self.scale)).mean()

    @torch.no_grad()
    def _update_scale(self, values: Tensor) -> None:
        ordered = values.sort().values
        width = percentile(ordered, 0.95) - percentile(ordered, 0.05)
        (width,) = mean([width.clamp(min=1.0)])  # of all processes, so that they have the same scale
        self.scale.lerp_(width.to(self.scale.dtype), self.scale_rate)

    def _termination(self, latent: Tensor) -> Tensor:
        assert self.termination_head is not None
        return at_least_float32(self.termination_head(latent).squeeze(-1))

    def _two_networks(self, like: Tensor) -> Tensor:
        return torch.randperm(self.value.n_networks, device=like.device)[:2]


def discount_of(episode_steps: int) -> float:
    """Return γ for episodes of this many agent steps: 1 - 5 / `episode_steps`, between 0.95 and 0.995.

    Raises:
        ConfigurationError: the number is not positive.
    """
    if episode_steps < 1:
        raise ConfigurationError(f"episode_steps must be at least 1, got {episode_steps}")
    return min(max(1.0 - 5.0 / episode_steps, 0.95), 0.995)


def percentile(ordered: Tensor, fraction: float) -> Tensor:
    """Return the percentile () of ascending numbers (N,), interpolated linearly."""
    position = fraction * (len(ordered) - 1)
    low = int(position)
    return torch.lerp(ordered[low], ordered[min(low + 1, len(ordered) - 1)], position - low)
