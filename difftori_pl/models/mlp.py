"""The multilayer perceptron that every small network of the paper is made of (Appendix C)."""

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
    """Build Linear-activation pairs and a last Linear.

    Args:
        in_dim: size of the input.
        hidden_dims: sizes of the hidden layers; empty for one linear map.
        out_dim: size of the output.
        activation: the nonlinearity; the paper uses ELU, which is smooth, as second derivatives of a score need.
        last_bias: give the last layer a bias. A network that is only ever used through its gradient with respect to
            its input must not have one: no gradient would reach it, which DistributedDataParallel refuses.
    """
    dims = [in_dim, *hidden_dims]
    layers: list[nn.Module] = []
    for before, after in pairwise(dims):
        layers += [nn.Linear(before, after), activation()]
    return nn.Sequential(*layers, nn.Linear(dims[-1], out_dim, bias=last_bias))
