"""Latent world model of the RL experiments, with the networks of TD-MPC (arXiv:2203.04955)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difftori_pl.models.critics import TwinQ
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.mlp import mlp
from difftori_pl.models.policy import Observation

NOISE_CLIP = 0.3
"""TD-MPC clips the policy's exploration noise to this absolute value."""


class WorldModel(nn.Module):
    """Encoder h, latent dynamics d, reward R, twin Q and policy π (section 4.2), one method for each.

    Each part can be replaced by a module with the same inputs and outputs; None builds that of TD-MPC.

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

    def disagreement(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the standard deviation (N,) of the Q ensemble; for two networks, half of their distance."""
        return self.values(latent, action).std(0, correction=0)

    def act(self, latent: Tensor, std: float = 0.0) -> Tensor:
        """Apply π: return actions (N, A) in [-1, 1] for latents (N, Z).

        Args:
            latent: latents (N, Z).
            std: standard deviation of the noise, which is clipped to ±0.3. Gradients pass straight through to the mean.
        """
        mean = torch.tanh(self.pi(latent))
        if std <= 0:
            return mean
        noise = (std * torch.randn_like(mean)).clamp(-NOISE_CLIP, NOISE_CLIP)
        action = mean + noise
        return action + (action.clamp(-1.0, 1.0) - action).detach()


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
