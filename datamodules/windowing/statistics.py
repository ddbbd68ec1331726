"""Mean, standard deviation and range, computed in chunks."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.errors import DataError


@dataclass(frozen=True)
class Statistics:
    """Statistics of an array (N, ...) over its first axis, in the array's units.

    Attributes:
        mean: mean (...).
        std: population standard deviation (...), 0 for a constant.
        min: smallest value (...).
        max: largest value (...).
    """

    mean: Tensor
    std: Tensor
    min: Tensor
    max: Tensor


def statistics_of(chunks: Iterable[npt.NDArray[Any]]) -> Statistics:
    """Compute statistics chunk by chunk.

    Sums are in float64, and squares are taken around the running mean (Chan, Golub and LeVeque 1979), so that data with
    a large mean and a small spread do not lose precision.

    Args:
        chunks: arrays (N_i, ...).

    Raises:
        DataError: there are no values, or a value is NaN, infinite, or too large for float32.
    """
    n, mean, squares, low, high = 0, np.zeros(()), np.zeros(()), np.array(np.inf), np.array(-np.inf)
    for chunk in chunks:
        if len(chunk) == 0:
            continue
        values = chunk.astype(np.float64)
        if not (np.abs(values) <= np.finfo(np.float32).max).all():  # comparisons with NaN are false
            largest = np.abs(values).max()
            raise DataError(
                f"expected numbers that float32 can hold, found {largest:g}. Remove the demos with such numbers."
            )
        n_new, mean_new = len(values), values.mean(axis=0)
        shift = mean_new - mean
        squares = squares + ((values - mean_new) ** 2).sum(axis=0) + shift**2 * (n * n_new / (n + n_new))
        mean = mean + shift * (n_new / (n + n_new))
        low, high = np.minimum(low, values.min(axis=0)), np.maximum(high, values.max(axis=0))
        n += n_new
    if n == 0:
        raise DataError("statistics need at least one step of data, got none. Give at least one training demo.")
    return Statistics(*(torch.as_tensor(x, dtype=torch.float32) for x in (mean, np.sqrt(squares / n), low, high)))
