import numpy as np
import pytest
import torch

from datamodules.errors import DataError
from datamodules.windowing.statistics import statistics_of


def test_chunked_statistics_match_numpy() -> None:
    # With a large mean and a small spread, sums of squares in float32 would lose all precision.
    values = 1e4 + 1e-2 * np.random.default_rng(0).normal(size=(1000, 3))
    found = statistics_of(np.split(values, [1, 1, 10, 500]))
    expected = (values.mean(0), values.std(0), values.min(0), values.max(0))
    for got, want in zip((found.mean, found.std, found.min, found.max), expected, strict=True):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got, torch.as_tensor(want, dtype=torch.float32), rtol=1e-6, atol=0)


def test_standard_deviation_of_a_constant_is_zero() -> None:
    assert statistics_of([np.full((4, 2), 0.1, np.float32)]).std.tolist() == [0, 0]


def test_no_data_is_refused() -> None:
    with pytest.raises(DataError, match="at least one step"):
        statistics_of([np.empty((0, 3))])


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e200])
def test_numbers_that_are_not_finite_in_float32_are_refused(value: float) -> None:
    with pytest.raises(DataError, match="numbers that float32 can hold"):
        statistics_of([np.zeros((3, 2)), np.array([[0.0, value]])])
