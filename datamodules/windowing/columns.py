"""Columns: one array over all episodes, e.g. all actions, held in memory or read from the file."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.formats.demo_file import DemoFile
from datamodules.windowing.windows import Int64Array


class Column(ABC):
    """Base class of an array over all episodes.

    Attributes:
        step_shape: shape of one step.
    """

    step_shape: tuple[int, ...]

    @abstractmethod
    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows.

        Args:
            episodes: episode numbers (B,).
            steps: steps (B, W), in non-decreasing order within each window.

        Returns:
            A new array (B, W, ...).
        """

    @abstractmethod
    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes, each (T, ...)."""


class MemoryColumn(Column):
    """Column in memory: one contiguous array, so that fetching a batch is one indexing operation.

    Forked workers share the memory, because reading the array does not change reference counts in it.

    Args:
        parts: the array (T, ...) of each episode.
    """

    def __init__(self, parts: Sequence[npt.NDArray[Any]]) -> None:
        self._values = np.concatenate(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self._offsets = self._ends - [len(part) for part in parts]
        self.step_shape = self._values.shape[1:]

    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows; see `Column`."""
        return self._values.take(self._offsets[episodes, None] + steps, axis=0)

    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes; see `Column`."""
        return (self._values[first:end] for first, end in zip(self._offsets, self._ends, strict=True))


class FileColumn(Column):
    """Column read from the file: each window is one contiguous read.

    Args:
        file: the file.
        demos: the names of the episodes.
        key: name of the array, e.g. "obs/agentview_image".
        dtype: type of the fetched values.
    """

    def __init__(self, file: DemoFile, demos: Sequence[str], key: str, dtype: npt.DTypeLike) -> None:
        self._file, self._demos, self._key, self._dtype = file, tuple(demos), key, np.dtype(dtype)
        self.step_shape = file.shape(demos[0], key)[1:]

    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows; see `Column`."""
        windows = np.empty((*steps.shape, *self.step_shape), self._dtype)
        # In file order, windows that share a compressed chunk are read one after the other.
        for row in np.lexsort((steps[:, 0], episodes)):
            first, last = int(steps[row, 0]), int(steps[row, -1])
            values = self._file.read(self._demos[episodes[row]], self._key, first, last + 1)
            windows[row] = values[steps[row] - first]
        return windows

    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes; see `Column`."""
        return (self._file.read(demo, self._key).astype(self._dtype, copy=False) for demo in self._demos)


class ScaledColumn(Column):
    """Column of small integers that are scaled to float32 when they are fetched.

    Args:
        column: the column of integers.
        scale: factor for each entry of the last axis.
    """

    def __init__(self, column: Column, scale: npt.NDArray[np.float32]) -> None:
        self._column, self._scale = column, scale
        self.step_shape = column.step_shape

    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows; see `Column`."""
        return self._column.gather(episodes, steps) * self._scale

    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes; see `Column`."""
        return (values * self._scale for values in self._column.episodes())


class ClippedColumn(Column):
    """Column of actions, clipped to [-1, 1].

    Stored actions may exceed this range by rounding, at most by `datamodules.formats.faults.ROUNDING`.

    Args:
        column: the column of actions.
    """

    def __init__(self, column: Column) -> None:
        self._column = column
        self.step_shape = column.step_shape

    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows; see `Column`."""
        return self._column.gather(episodes, steps).clip(-1, 1)

    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes; see `Column`."""
        return (values.clip(-1, 1) for values in self._column.episodes())
