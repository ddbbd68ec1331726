import numpy as np
import pytest
from scipy import stats

from datamodules.replay.sum_tree import SumTree


@pytest.mark.parametrize("capacity", [1, 2, 5, 1000])
def test_find_matches_a_cumulative_sum(capacity: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.random(capacity) * (rng.random(capacity) > 0.3) + 1e-9
    tree = SumTree(capacity)
    tree.update(np.arange(capacity), weights)
    points = rng.random(500) * weights.sum()
    np.testing.assert_array_equal(tree.find(points), np.searchsorted(weights.cumsum(), points, side="right"))
    np.testing.assert_allclose(tree.total, weights.sum(), rtol=1e-12)


def test_weights_stay_exact_over_many_updates() -> None:
    rng = np.random.default_rng(1)
    tree, reference = SumTree(77), np.zeros(77)
    for _ in range(300):
        index = rng.choice(77, 20, replace=False)
        reference[index] = 10.0 ** rng.uniform(-6, 4, 20)
        tree.update(index, reference[index])
    np.testing.assert_array_equal(tree.weights, reference)
    np.testing.assert_allclose(tree.total, reference.sum(), rtol=1e-12)


def test_a_weight_of_zero_is_never_found() -> None:
    tree = SumTree(6)
    tree.update(np.array([1, 4]), np.array([0.1, 0.2]))
    points = np.concatenate([np.linspace(0, tree.total, 1001), [tree.total * (1 + 1e-15)]])
    assert set(tree.find(points)) == {1, 4}


def test_samples_in_proportion() -> None:
    weights = np.arange(1.0, 9.0)
    tree = SumTree(8)
    tree.update(np.arange(8), weights)
    found = tree.find(np.random.default_rng(2).random(20_000) * tree.total)
    expected = 20_000 * weights / weights.sum()
    assert stats.chisquare(np.bincount(found, minlength=8), expected).pvalue > 1e-3
    # The test has enough power to reject a similar distribution.
    assert stats.chisquare(np.bincount(found, minlength=8), np.roll(expected, 1)).pvalue < 1e-6


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_invalid_weights_are_refused(weight: float) -> None:
    tree = SumTree(4)
    tree.update(np.arange(4), np.ones(4))
    with pytest.raises(ValueError, match="finite and not negative"):
        tree.update(np.array([1, 2]), np.array([2.0, weight]))
    assert tree.total == 4.0
    assert tree.find(np.array([0.5, 3.5])).tolist() == [0, 3]
