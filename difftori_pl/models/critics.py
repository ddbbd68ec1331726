"""Critics: Q on latents and Q̃ on observations (section 4.2)."""

from copy import deepcopy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.policy import Observation


class TwinQ(nn.Module):
    """Ensemble of K Q-networks with the layers of TD-MPC: Linear, LayerNorm, Tanh, Linear, ELU, Linear.

    The weights of the networks are stacked and multiplied as a batch. The last layer is initialised to zero.

    Args:
        latent_dim: size Z of a latent.
        action_dim: size A of an action.
        hidden_dim: width of both hidden layers.
        n_networks: number K of networks.
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_dim: int = 512, n_networks: int = 2) -> None:
        super().__init__()
        self.n_networks = n_networks
        sizes = latent_dim + action_dim, hidden_dim, hidden_dim
        weights = [_orthogonal(n_networks, *pair) for pair in pairwise(sizes)]
        self.weights = nn.ParameterList([*weights, torch.zeros(n_networks, hidden_dim, 1)])
        self.biases = nn.ParameterList([torch.zeros(n_networks, 1, size) for size in (hidden_dim, hidden_dim, 1)])
        self.norm_weight = nn.Parameter(torch.ones(n_networks, 1, hidden_dim))
        self.norm_bias = nn.Parameter(torch.zeros(n_networks, 1, hidden_dim))

    def forward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return values (K, N) of actions (N, A) at latents (N, Z), or at one set of latents per network (K, N, Z)."""
        latents = latent.expand(self.n_networks, *latent.shape[-2:])
        x = torch.cat([latents, action.expand(self.n_networks, *action.shape)], dim=-1)
        x = torch.baddbmm(self.biases[0], x, self.weights[0])
        x = torch.tanh(F.layer_norm(x, x.shape[-1:]) * self.norm_weight + self.norm_bias)
        x = F.elu(torch.baddbmm(self.biases[1], x, self.weights[1]))
        return torch.baddbmm(self.biases[2], x, self.weights[2]).squeeze(-1)


class ObservationCritic(nn.Module):
    """Q̃, an ensemble of critics on observations, each with a separate encoder (Appendix C).

    It is trained separately from the world model, so that errors of the model do not enter the action gradient.

    Args:
        encoder: encoder of one network; every network gets a copy.
        action_dim: size A of an action.
        hidden_dim: width of both hidden layers.
        n_networks: number K of networks.

    Attributes:
        config: description, for checkpoints, of a critic that was loaded from a file; otherwise None.
    """

    config: dict[str, Any] | None = None

    def __init__(self, encoder: Encoder, action_dim: int, hidden_dim: int = 512, n_networks: int = 2) -> None:
        super().__init__()
        self.encoders = nn.ModuleList([deepcopy(encoder) for _ in range(n_networks)])
        self.value = TwinQ(encoder.latent_dim, action_dim, hidden_dim, n_networks)

    def forward(self, obs: Observation, action: Tensor) -> Tensor:
        """Return values (K, B, T) of actions (B, T, A) at observations (B, T, ...)."""
        latents = torch.stack([encoder(obs, {})[0].flatten(0, 1) for encoder in self.encoders])
        return self.value(latents, action.flatten(0, 1)).unflatten(1, action.shape[:2])


def _orthogonal(n_networks: int, in_dim: int, out_dim: int) -> Tensor:
    weight = torch.empty(n_networks, in_dim, out_dim)
    for one in weight:
        nn.init.orthogonal_(one)
    return weight
