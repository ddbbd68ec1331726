"""Success rates, confidence intervals and the number of modes."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

Z_95 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution."""


class Proportion(NamedTuple):
    """A success rate with its Wilson 95 % interval, all in [0, 1]."""

    rate: float
    low: float
    high: float
    n_successes: int
    n_trials: int

    def __str__(self) -> str:
        """Format for tables: `39/50 = 78 % (65 to 87)`."""
        if self.n_trials == 0:
            return "no episodes"
        percent = [f"{100 * value:.0f}" for value in (self.rate, self.low, self.high)]
        return f"{self.n_successes}/{self.n_trials} = {percent[0]} % ({percent[1]} to {percent[2]})"


def wilson(n_successes: int, n_trials: int) -> Proportion:
    """Compute the Wilson score interval (Wilson 1927), which stays in [0, 1] and is valid for 0 and n successes."""
    if n_trials == 0:
        return Proportion(math.nan, 0.0, 1.0, 0, 0)
    rate = n_successes / n_trials
    scale = 1.0 + Z_95**2 / n_trials
    centre = (rate + Z_95**2 / (2 * n_trials)) / scale
    half = Z_95 * math.sqrt(rate * (1.0 - rate) / n_trials + Z_95**2 / (4 * n_trials**2)) / scale
    return Proportion(rate, max(centre - half, 0.0), min(centre + half, 1.0), n_successes, n_trials)


def mean_interval(values: Sequence[float], n_resamples: int = 10_000) -> tuple[float, float]:
    """Compute the percentile bootstrap 95 % interval of the mean (Efron 1979), with a fixed seed."""
    if len(values) < 2:
        return (-math.inf, math.inf)
    sample = torch.tensor(values, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    means = sample[torch.randint(len(sample), (n_resamples, len(sample)), generator=generator)].mean(1)
    low, high = means.quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


class SuccessRate(Metric):
    """Fraction of successful episodes over all ranks.

    `compute` returns a `Proportion`. A crashed episode counts as a failure: dropping it would reward a policy that
    crashes the simulator.
    """

    full_state_update = False
    n_successes: Tensor
    n_trials: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("n_successes", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("n_trials", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, successes: Tensor) -> None:
        """Add episodes: `successes` (N,), true where the task was solved."""
        self.n_successes += successes.sum()
        self.n_trials += successes.numel()

    def compute(self) -> Proportion:
        """Return the success rate so far with its interval."""
        return wilson(int(self.n_successes), int(self.n_trials))


def n_modes(points: Tensor, radius: float) -> int:
    """Count the clusters of points (N, D) by single linkage with the distance `radius`.

    Two points are in one cluster if a chain of points, each within `radius` of the next, connects them.
    """
    near = torch.cdist(points, points) <= radius
    reached = near
    for _ in range(max(len(points) - 1, 0).bit_length()):  # each squaring doubles the length of the chains found
        reached = (reached.float() @ reached.float()) > 0
    return len(torch.unique(reached, dim=0)) if len(points) else 0
