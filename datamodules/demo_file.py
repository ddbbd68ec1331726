"""Files of demonstrations: what every format gives to columns, splits and datamodules."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from datamodules.damage import clear_errors
from datamodules.errors import DataError

if TYPE_CHECKING:
    import h5py

# h5py's default of 1 MiB holds less than one chunk of images as robomimic writes them, so that each window would
# decompress the same chunk again.
_CHUNK_CACHE_BYTES = 32 * 2**20


class DemoFile(ABC):
    """A file of demonstrations, HDF5 if a format does not say otherwise, opened at the first read and once per process.

    A forked worker must not read through the handle of its parent: both would move the same file position and get
    each other's bytes (https://github.com/pytorch/pytorch/issues/11887).

    Args:
        path: the file; `~` stands for the home folder.
    """

    format_name: str
    """What messages call the format."""

    how_to_get: str
    """What a message about a missing file advises."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._handle: h5py.File | None = None
        self._pid = os.getpid()

    @property
    def handle(self) -> h5py.File:
        """This process's open file.

        Raises:
            DataError: the file is missing, or no HDF5, or being written.
        """
        if self._pid != os.getpid():
            # HDF5 gives the same descriptor to everyone who opens a file that is already open in the process: the
            # inherited handle has to go first.
            self.close()
        if self._handle is None:
            self._handle = self._open()
            self._pid = os.getpid()
        return self._handle

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    @abstractmethod
    def demos(self) -> list[str]:
        """The names of all demos in natural order: demo_2 before demo_10."""

    @abstractmethod
    def env_name(self) -> str:
        """The simulator's task; empty if the file does not say."""

    def filters(self) -> list[str]:
        """The named subsets of the demos; none in most formats."""
        return []

    def filtered(self, name: str) -> list[str]:
        """The names of the demos of one subset, in natural order.

        Raises:
            DataError: there is no such subset.
        """
        raise DataError(f"{self.path}: no filter key {name!r}. {_list_filters(self.filters())}")

    @abstractmethod
    def length(self, demo: str) -> int:
        """The number of steps of a demo."""

    @abstractmethod
    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """The shape (T, ...) of an array of a demo."""

    @abstractmethod
    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read steps `first` to `stop` (excluded; None: to the end) of an array, e.g. of "obs/object".

        Raises:
            DataError: the bytes cannot be read.
        """

    def _read(self, name: str, first: int, stop: int | None) -> npt.NDArray[Any]:
        with clear_errors(self.path):
            return self.handle[name][first:stop]

    def _open(self) -> h5py.File:
        try:
            import h5py
        except ImportError as error:
            raise DataError("Reading HDF5 needs h5py: pip install h5py.") from error
        if not self.path.exists():
            raise DataError(f"{self.path}: no such file. {self.how_to_get}")
        try:
            return h5py.File(self.path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
        except BlockingIOError as error:
            raise DataError(f"{self.path}: another process is writing this file. Wait until it is finished.") from error
        except OSError as error:
            raise DataError(
                f"{self.path}: expected a {self.format_name} HDF5 file, but it cannot be opened ({error}). "
                "If it was cut short, copy or make it again; if it is another format, convert it."
            ) from error


def natural_order(name: str) -> list[str | int]:
    """A sort key that compares the numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _list_filters(filters: list[str]) -> str:
    if filters:
        return f"The file has: {', '.join(filters)}."
    return "The file has none: leave the filters unset to split the demos by a seed."
