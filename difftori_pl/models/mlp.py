"""Multilayer perceptron, the building block of the paper's small networks (Appendix C)."""

from collections.abc import Sequence
from itertools import pairwise

from torch import nn


def mlp(
    in_dim: int,
    hidden_dims: Sequence[int],
    out_dim: int,
    activation: type[nn.Module] = nn.ELU,
    last_bias: bool = True,
) -> nn.Sequential:
    """Build a multilayer perceptron that ends in a linear layer.

    Args:
        in_dim: size of the input.
        hidden_dims: sizes of the hidden layers; empty for one linear map.
        out_dim: size of the output.
        activation: the nonlinearity; ELU in the paper. A score needs a smooth one, for its second derivatives.
        last_bias: give the last layer a bias. Set it to False if the network is used only through its gradient with
            respect to its input: the bias would receive no gradient, which DistributedDataParallel rejects.
    """
    dims = [in_dim, *hidden_dims]
    layers: list[nn.Module] = []
    for before, after in pairwise(dims):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers, nn.Linear(dims[-1], out_dim, bias=last_bias))
