"""Success rates with confidence intervals."""

import math
from typing import NamedTuple

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
