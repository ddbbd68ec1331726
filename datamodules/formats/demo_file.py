"""The base class of the file formats."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from datamodules.errors import DataError, MissingDataError
from datamodules.formats.damage import clear_errors
from datamodules.formats.faults import Fault, Request

if TYPE_CHECKING:
    import h5py

# h5py's default of 1 MiB is smaller than one chunk of robomimic's images, so that each window would decompress the same
# chunk again.
_CHUNK_CACHE_BYTES = 32 * 2**20


class DemoFile(ABC):
    """Base class of a file of demonstrations, which each process opens at its first read; HDF5 by default.

    A forked worker must not read through its parent's handle: the two share a file position, so that each would read
    wrong bytes (https://github.com/pytorch/pytorch/issues/11887).

    Args:
        path: path of the file; `~` stands for the home folder.
    """

    format_name: str
    """The name of the format in messages."""

    kind = "file"
    """The kind of path in messages: a file or a folder."""

    how_to_get: str
    """The advice in the message about a missing file."""

    readers: tuple[str, ...] = ("h5py", "json")
    """Packages that read the file; their exceptions, of many types, indicate damaged bytes."""

    @classmethod
    @abstractmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether a path looks like this format."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).expanduser()
        self._handle: h5py.File | None = None
        self._pid = os.getpid()

    @property
    def handle(self) -> h5py.File:
        """The open file of this process.

        Raises:
            DataError: the file is missing, not HDF5, or open for writing.
        """
        if self._pid != os.getpid():
            # HDF5 reuses the descriptor of a file that is already open in the process: first close the inherited one.
            self.close()
        if self._handle is None:
            self._handle = self._open()
            self._pid = os.getpid()
        return self._handle

    def close(self) -> None:
        """Close the file in this process; the next read reopens it."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_handle": None}

    def clear_errors(self, *place: str) -> AbstractContextManager[None]:
        """Turn errors while reading the file into a `DataError`; see `damage.clear_errors`.

        Args:
            place: what is read, such as the names of the demo and the array, for the message.
        """
        return clear_errors(": ".join([str(self.path), *place]), self.readers)

    @abstractmethod
    def demos(self) -> list[str]:
        """Return the names of all demos in natural order: demo_2 before demo_10."""

    @abstractmethod
    def env_name(self) -> str:
        """Return the simulator's name of the task; empty if the file does not contain one."""

    def content(self) -> str:
        """Describe the content in a few words: the task, and what else a format tells."""
        return self.env_name() or "unknown task"

    @abstractmethod
    def file_faults(self, request: Request) -> Iterable[Fault]:
        """Return the faults of the file as a whole.

        Raises:
            DataError: the file cannot be opened.
        """

    @abstractmethod
    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """Return the faults of these demos, except those of images and clouds, which `read` checks."""

    def other_faults(self) -> list[Fault]:
        """Return faults that do not prevent training, such as missing statistics that another program needs."""
        return []

    @abstractmethod
    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """Return the names of the arrays that a request needs of each of these demos, e.g. "obs/object"."""

    @abstractmethod
    def keys(self, demo: str) -> list[str]:
        """Return the names of all arrays of a demo."""

    def usable(self, request: Request) -> list[str]:
        """Return the names of the demos that the request does not drop."""
        return self.demos()

    def filters(self) -> list[str]:
        """Return the filter keys, which name subsets of the demos; most formats have none."""
        return []

    def filtered(self, name: str) -> list[str]:
        """Return the names of the demos of one filter key, in natural order.

        Raises:
            DataError: there is no such filter key.
        """
        raise DataError(f"{self.path}: no filter key {name!r}. {_list_filters(self.filters())}")

    @abstractmethod
    def length(self, demo: str) -> int:
        """Return the number of steps of a demo."""

    @abstractmethod
    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """Return the shape (T, ...) of an array of a demo."""

    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read steps `first` to `stop` (excluded; None reads to the last action) of an array such as "obs/object".

        Raises:
            DataError: the array cannot be read or used.
        """
        with self.clear_errors(demo, key):
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
                f"({' '.join(str(error).split())}). If the file is cut short, copy or record it again; if it has "
                "another format, convert it."
            ) from error

    def _require(self, is_expected_kind: bool) -> None:
        """Check that the path exists and is of the expected kind, a file or a folder.

        Raises:
            MissingDataError: the path does not exist.
            DataError: the path is of another kind.
        """
        if not self.path.exists():
            raise MissingDataError(f"{self.path}: no such {self.kind}. {self.how_to_get}")
        if not is_expected_kind:
            raise DataError(f"{self.path}: expected {self.format_name}, got {describe(self.path)}")


def describe(path: Path) -> str:
    """Describe a path of an unexpected kind and give advice."""
    if path.is_file():
        return f"a file that ends with {path.suffix or 'nothing'}. Give the path of the data."
    if (path / "meta/info.json").is_file():
        return "a LeRobot data set. Read it with LeRobotDataModule."
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


def is_one_number(key: str, n_axes: int) -> bool:
    """Return whether an array is an observation of one number per step, which is read as a vector of size 1."""
    return n_axes == 1 and key.startswith(("obs/", "next_obs/"))


def natural_order(name: str) -> list[str | int]:
    """Return a sort key that compares the numbers in names as numbers."""
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def _list_filters(filters: list[str]) -> str:
    if filters:
        return f"The file has: {', '.join(filters)}."
    return "The file has none: leave the filters unset to split the demos at random."
