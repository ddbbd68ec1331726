import math

import pytest
import torch
from scipy.stats import binomtest

from difftori_pl.evaluation.metrics import SuccessRate, wilson


@pytest.mark.parametrize(("n_successes", "n_trials"), [(0, 10), (1, 1), (39, 50), (50, 50), (7, 200)])
def test_the_interval_equals_that_of_scipy(n_successes: int, n_trials: int) -> None:
    ours = wilson(n_successes, n_trials)
    theirs = binomtest(n_successes, n_trials).proportion_ci(method="wilson")
    assert ours.rate == n_successes / n_trials
    assert ours.low == pytest.approx(theirs.low, abs=1e-12)
    assert ours.high == pytest.approx(theirs.high, abs=1e-12)


def test_without_episodes_the_rate_is_nan() -> None:
    empty = wilson(0, 0)
    assert math.isnan(empty.rate)
    assert str(empty) == "no episodes"


def test_the_metric_accumulates_over_updates() -> None:
    metric = SuccessRate()
    metric.update(torch.tensor([True, False, True]))
    metric.update(torch.tensor([False]))
    assert metric.compute() == wilson(2, 4)
    assert str(metric.compute()) == "2/4 = 50 % (15 to 85)"
