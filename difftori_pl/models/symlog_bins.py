"""Distributions over symlog bins, which represent rewards and values in TD-MPC2 (arXiv:2310.16828)."""

import torch
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import at_least_float32


class SymlogBins(nn.Module):
    """Represent numbers by distributions over bins that are equidistant in the symlog.

    Args:
        n_bins: number of bins.
        max_symlog: centre of the last bin, a symlog; larger numbers are represented by it.
    """

    centres: Tensor

    def __init__(self, n_bins: int = 101, max_symlog: float = 10.0) -> None:
        super().__init__()
        if n_bins < 2:
            raise ConfigurationError(f"n_bins must be at least 2, got {n_bins}")
        self.n_bins, self.max_symlog = n_bins, max_symlog
        self.register_buffer("centres", torch.linspace(-max_symlog, max_symlog, n_bins), persistent=False)

    def two_hot(self, numbers: Tensor) -> Tensor:
        """Return the distributions (..., n_bins) of numbers (...): two neighbouring bins with the symlog as mean."""
        width = 2.0 * self.max_symlog / (self.n_bins - 1)
        distance = symlog(numbers).clamp(-self.max_symlog, self.max_symlog).unsqueeze(-1) - self.centres
        return (1.0 - distance.abs() / width).clamp(min=0.0)

    def decode(self, logits: Tensor) -> Tensor:
        """Return the number (...) whose symlog is the mean of the distribution with these logits (..., n_bins)."""
        return symexp((at_least_float32(logits).softmax(-1) * self.centres).sum(-1))

    def cross_entropy(self, logits: Tensor, numbers: Tensor) -> Tensor:
        """Return the cross-entropy (..., N) in nats of logits (..., N, n_bins) and the two-hot numbers (..., N)."""
        return -(self.two_hot(numbers) * at_least_float32(logits).log_softmax(-1)).sum(-1)


def symlog(x: Tensor) -> Tensor:
    """Return sign(x) log(1 + |x|)."""
    sign = _sign(x)
    return sign * (sign * x).log1p()


def symexp(x: Tensor) -> Tensor:
    """Return sign(x) (exp(|x|) - 1), the inverse of `symlog`."""
    sign = _sign(x)
    return sign * (sign * x).expm1()


def _sign(x: Tensor) -> Tensor:
    """Return -1 or 1; with `Tensor.sign`, which is 0 at 0, the derivatives at 0 would be 0."""
    return torch.where(x < 0, -1.0, 1.0).to(x.dtype)
