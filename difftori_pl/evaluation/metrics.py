"""Success rates, confidence intervals and the number of modes."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from difftori_pl.evaluation.proportion import Proportion as Proportion
from difftori_pl.evaluation.proportion import wilson as wilson


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
