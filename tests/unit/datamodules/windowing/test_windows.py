import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.windowing.windows import Windows


def test_padding_repeats_the_first_and_the_last_step() -> None:
    windows = Windows({"a": 2, "b": 3}, horizon=3, n_obs_steps=2)
    episodes, starts = windows.locate(np.arange(len(windows)))
    steps, mask = windows.steps(episodes, starts)
    assert windows.width == 4
    assert episodes.tolist() == [0, 0, 1, 1, 1]
    assert starts.tolist() == [-1, 0, -1, 0, 1]
    assert steps.tolist() == [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 1, 2], [0, 1, 2, 2], [1, 2, 2, 2]]
    assert mask.astype(int).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 0, 0]]


def test_without_padding_every_step_is_real() -> None:
    windows = Windows({"a": 4, "b": 6}, horizon=3, n_obs_steps=2, pad_obs=False, pad_horizon=False)
    episodes, starts = windows.locate(np.arange(len(windows)))
    _, mask = windows.steps(episodes, starts)
    assert mask.all()
    assert list(zip(episodes.tolist(), starts.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1), (1, 2)]


def test_error_names_an_episode_that_is_too_short() -> None:
    with pytest.raises(DataError, match=r"b: expected at least 3 steps for one window, got 2"):
        Windows({"a": 4, "b": 2}, horizon=3, pad_horizon=False)


def test_horizon_must_be_positive() -> None:
    with pytest.raises(DataError, match="at least 1, got 0 and 1"):
        Windows({"a": 4}, horizon=0)
