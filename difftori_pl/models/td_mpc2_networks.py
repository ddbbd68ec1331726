"""The networks of TD-MPC2 (arXiv:2310.16828): normalised layers, the ensemble of critics, and simplices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from difftori_pl.losses import at_least_float32

INITIAL_STD = 0.02
"""Standard deviation of the initial weights."""


class QEnsemble(nn.Module):
    """K networks: Linear, Dropout, LayerNorm, Mish; Linear, LayerNorm, Mish; Linear, initialised to zero.

    The weights of the networks are stacked and multiplied as a batch.

    Args:
        in_dim: size of the input.
        hidden_dim: width of both hidden layers.
        out_dim: size of the output.
        n_networks: number K of networks.
        dropout: probability of dropping an output of the first layer.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int, n_networks: int, dropout: float) -> None:
        super().__init__()
        self.n_networks, self.dropout = n_networks, dropout
        shapes = [(n_networks, *pair) for pair in pairwise((in_dim, hidden_dim, hidden_dim))]
        weights = [nn.init.trunc_normal_(torch.empty(shape), std=INITIAL_STD) for shape in shapes]
        self.weights = nn.ParameterList([*weights, torch.zeros(n_networks, hidden_dim, out_dim)])
        self.biases = nn.ParameterList([torch.zeros(n_networks, 1, size) for size in (hidden_dim, hidden_dim, out_dim)])
        self.norm_weights = nn.ParameterList([torch.ones(n_networks, 1, hidden_dim) for _ in range(2)])
        self.norm_biases = nn.ParameterList([torch.zeros(n_networks, 1, hidden_dim) for _ in range(2)])

    def forward(self, inputs: Tensor, chosen: Tensor | None = None, dropout: bool = False) -> Tensor:
        """Return the outputs (K, N, out_dim) for inputs (N, in_dim).

        Args:
            inputs: inputs of all networks.
            chosen: indices (K',) of the networks to evaluate; None for all.
            dropout: whether to drop outputs. It does not depend on the mode of the module, which is also in training
                mode while it acts.
        """

        def of(part: Tensor) -> Tensor:
            return part if chosen is None else part.index_select(0, chosen)

        x = inputs.expand(self.n_networks if chosen is None else len(chosen), *inputs.shape)
        for layer, norm_weight in enumerate(self.norm_weights):
            x = torch.baddbmm(of(self.biases[layer]), x, of(self.weights[layer]))
            if layer == 0 and dropout:
                x = F.dropout(x, self.dropout)
            x = F.mish(F.layer_norm(x, x.shape[-1:]) * of(norm_weight) + of(self.norm_biases[layer]))
        return torch.baddbmm(of(self.biases[-1]), x, of(self.weights[-1]))


class SimNorm(nn.Module):
    """Apply a softmax to each group of `dim` components.

    Args:
        dim: number of components of a group.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return an array of the same shape (..., Z); each group is positive and sums to 1."""
        return at_least_float32(x).view(*x.shape[:-1], -1, self.dim).softmax(-1).view(x.shape)


def normed_mlp(in_dim: int, hidden_dims: Sequence[int], out_dim: int, output: nn.Module | None = None) -> nn.Sequential:
    """Build a perceptron of Linear, LayerNorm and Mish layers.

    Args:
        in_dim: size of the input.
        hidden_dims: sizes of the hidden layers.
        out_dim: size of the output.
        output: function after the last linear layer, which then has a LayerNorm; None for neither.
    """
    layers: list[nn.Module] = []
    for before, after in pairwise((in_dim, *hidden_dims)):
        layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.Mish()]
    layers.append(nn.Linear((in_dim, *hidden_dims)[-1], out_dim))
    if output is not None:
        layers += [nn.LayerNorm(out_dim), output]
    return nn.Sequential(*layers)


def initialise(layer: nn.Module) -> None:
    """Draw the weights of a linear layer from a truncated normal distribution and set its bias to zero."""
    if isinstance(layer, nn.Linear):
        nn.init.trunc_normal_(layer.weight, std=INITIAL_STD)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
