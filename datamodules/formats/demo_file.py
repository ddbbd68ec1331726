"""Files of demonstrations: what every format gives to columns, splits and datamodules."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.formats.damage import clear_errors
from datamodules.formats.faults import Fault, Request

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

    kind = "file"
    """What messages call the path of the data: a file or a folder."""

    how_to_get: str
    """What a message about a missing file advises."""

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Whether a path looks like this format."""

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

    @abstractmethod
    def file_faults(self, request: Request) -> Iterable[Fault]:
        """Find what is wrong with the file as a whole.

        Raises:
            DataError: it cannot be opened.
        """

    @abstractmethod
    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """Find what is wrong with these demos, but for images and clouds, which are checked as they are read."""

    @abstractmethod
    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """The arrays that a request needs of each of these demos, e.g. "obs/object"."""

    @abstractmethod
    def keys(self, demo: str) -> list[str]:
        """The names of all arrays of a demo."""

    def usable(self, request: Request) -> list[str]:
        """The names of the demos that a request does not leave out."""
        return self.demos()

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

    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read steps `first` to `stop` (excluded; None: to the last action) of an array, e.g. of "obs/object".

        Raises:
            DataError: the bytes cannot be read, or cannot be used.
        """
        with clear_errors(f"{self.path}: {demo}: {key}"):
            length = self.length(demo)
            return self._values(demo, key, first, length if stop is None else min(stop, length))

    @abstractmethod
    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Read steps `first` to `stop` (excluded) of an array."""

    def _open(self) -> h5py.File:
        try:
            import h5py
        except ImportError as error:
            raise DataError("Reading HDF5 needs h5py: pip install h5py.") from error
        self._require(self.path.is_file())
        try:
            return h5py.File(self.path, "r", rdcc_nbytes=_CHUNK_CACHE_BYTES)
        except PermissionError:
            raise
        except OSError as error:
            if isinstance(error, BlockingIOError) or "already open" in str(error):
                raise DataError(
                    f"{self.path}: the file is still open for writing. Wait until its writer has closed it."
                ) from error
            raise DataError(
                f"{self.path}: expected an HDF5 file, but it cannot be opened "
                f"({' '.join(str(error).split())}). If it was cut short, copy or make it again; if it is another "
                "format, convert it."
            ) from error

    def _require(self, is_of_the_kind: bool) -> None:
        """Refuse a missing path, and a file in place of a folder or the reverse.

        Raises:
            DataError: the path is missing or something else.
        """
        if not self.path.exists():
            raise DataError(f"{self.path}: no such {self.kind}. {self.how_to_get}")
        if not is_of_the_kind:
            raise DataError(f"{self.path}: expected {self.format_name}, got {describe(self.path)}")


def describe(path: Path) -> str:
    """Describe a path of another kind than expected, with advice."""
    if path.is_file():
        return f"a file that ends with {path.suffix or 'nothing'}. Give the path of the data."
    if (path / "meta/info.json").is_file():
        return "a LeRobot data set. It is not supported: convert it to robomimic's HDF5 format."
    if any((path / name).exists() for name in (".zgroup", "zarr.json")):
        return "a zarr folder. Read it with PushTDataModule, or convert it to HDF5."
    files = sorted(file for pattern in ("*.hdf5", "*.h5") for file in path.glob(pattern))
    if files:
        return f"a folder with {len(files)} HDF5 files. Give the path of one of them, e.g. {files[0]}."
    return "a folder. Give the path of the file in it."


def stored_arrays(group: h5py.Group) -> dict[str, Any]:
    """Return the arrays in an HDF5 group, without reading them, by their paths in it, e.g. "obs/object"."""
    found: dict[str, Any] = {}
    group.visititems(lambda name, item: found.update({name: item}) if hasattr(item, "shape") else None)
    return found


def natural_order(name: str) -> list[str | int]:
    """A sort key that compares the numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _list_filters(filters: list[str]) -> str:
    if filters:
        return f"The file has: {', '.join(filters)}."
    return "The file has none: leave the filters unset to split the demos by a seed."
