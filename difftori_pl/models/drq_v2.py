"""Networks of DrQ-v2 (arXiv:2107.09645): the actor and the twin critic."""

import torch
from torch import Tensor, nn

from difftori_pl.models.mlp import mlp
from difftori_pl.models.td_mpc import orthogonal


class Actor(nn.Module):
    """π: project the latent, then two hidden layers and a tanh.

    Args:
        latent_dim: size Z of the encoder's latent.
        action_dim: size A of an action.
        feature_dim: size of the projection.
        hidden_dim: width of both hidden layers.
    """

    def __init__(self, latent_dim: int, action_dim: int, feature_dim: int = 50, hidden_dim: int = 1024) -> None:
        super().__init__()
        self.trunk = _trunk(latent_dim, feature_dim)
        self.policy = mlp(feature_dim, (hidden_dim, hidden_dim), action_dim, nn.ReLU)
        self.apply(orthogonal)

    def forward(self, latent: Tensor) -> Tensor:
        """Return mean actions (N, A) in [-1, 1] for latents (N, Z)."""
        return torch.tanh(self.policy(self.trunk(latent)))


class TwinCritic(nn.Module):
    """Q1 and Q2 on a shared projection of the latent.

    `TwinQ` has the layers of TD-MPC; these are the ones of DrQ-v2: two hidden layers with ReLU, and a last layer that
    does not start at zero.

    Args:
        latent_dim: size Z of the encoder's latent.
        action_dim: size A of an action.
        feature_dim: size of the projection.
        hidden_dim: width of both hidden layers.
    """

    def __init__(self, latent_dim: int, action_dim: int, feature_dim: int = 50, hidden_dim: int = 1024) -> None:
        super().__init__()
        self.trunk = _trunk(latent_dim, feature_dim)
        self.networks = nn.ModuleList(
            [mlp(feature_dim + action_dim, (hidden_dim, hidden_dim), 1, nn.ReLU) for _ in range(2)]
        )
        self.apply(orthogonal)

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return values (2, N) of actions (N, A) at latents (N, Z)."""
        features = torch.cat([self.trunk(latent), action], dim=-1)
        return torch.stack([network(features).squeeze(-1) for network in self.networks])


def _trunk(latent_dim: int, feature_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(latent_dim, feature_dim), nn.LayerNorm(feature_dim), nn.Tanh())
