"""Columns of parquet files as arrays."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

READERS = ("pyarrow", "PIL", "json")
"""The packages that read a data set; see `DemoFile.readers`."""

_N_KEPT = 64
"""Columns that `Tables` keeps in memory, so that the episodes of one file are not read one by one."""


class Tables:
    """Columns of parquet files; the most recently read ones stay in memory."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[Path, str], npt.NDArray[Any]] = OrderedDict()

    def close(self) -> None:
        """Forget the columns."""
        self._kept.clear()

    def names(self, path: Path) -> list[str]:
        """Return the names of the columns of a file."""
        with parquet().ParquetFile(path) as file:
            return list(file.schema_arrow.names)

    def rows(self, path: Path, episode: int) -> slice:
        """Return the rows of an episode.

        Raises:
            DataError: they are not contiguous.
        """
        at = np.flatnonzero(self.numbers(path, "episode_index")[:, 0] == episode)
        if len(at) == 0:
            return slice(0, 0)
        if at[-1] - at[0] + 1 != len(at):
            raise DataError(f"{path}: expected the rows of episode {episode} one after the other. Write it again.")
        return slice(int(at[0]), int(at[-1]) + 1)

    def numbers(self, path: Path, name: str) -> npt.NDArray[Any]:
        """Read a column of numbers or of lists of numbers as an array (rows, size); scalars have the size 1.

        Raises:
            DataError: the file has no such column, a value is missing or not a number, or the size changes.
        """
        kept = self._kept.get((path, name))
        if kept is None:
            if name not in self.names(path):
                raise DataError(
                    f"{path}: expected a column {name}, found {', '.join(self.names(path))}. Write it again."
                )
            table = parquet().read_table(path, columns=[name], use_threads=False, partitioning=None)
            kept = self._kept[path, name] = _as_array(table.column(name), f"{path}: {name}")
            if len(self._kept) > _N_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end((path, name))
        return kept

    def pictures(self, path: Path, name: str, first: int, stop: int) -> Iterator[bytes]:
        """Yield the encoded pictures in the rows `first` to `stop` (excluded) of a column.

        Raises:
            DataError: a row has a path instead of the bytes.
        """
        with parquet().ParquetFile(path) as file:
            begin = 0
            for group in range(file.num_row_groups):
                end = begin + file.metadata.row_group(group).num_rows
                if begin < stop and end > first:
                    table = file.read_row_group(group, columns=[name], use_threads=False)
                    part = table.column(name).slice(max(first - begin, 0), min(stop, end) - max(first, begin))
                    for entry in part.to_pylist():
                        content = entry.get("bytes") if isinstance(entry, dict) else entry
                        if not isinstance(content, bytes):
                            raise DataError(
                                f"{path}: {name}: expected the bytes of a picture in each row, got a path or nothing. "
                                "Write the data set again with its pictures in the parquet files."
                            )
                        yield content
                begin = end


def read_rows(path: Path, without: str | None = None) -> list[dict[str, Any]]:
    """Read a small table as one dictionary per row, except columns whose name begins with `without`."""
    with parquet().ParquetFile(path) as file:
        names = [name for name in file.schema_arrow.names if without is None or not name.startswith(without)]
        rows: list[dict[str, Any]] = file.read(columns=names, use_threads=False).to_pylist()
        return rows


def parquet() -> Any:
    """Return `pyarrow.parquet`.

    Raises:
        DataError: pyarrow is not installed.
    """
    try:
        import pyarrow.parquet as module
    except ImportError as error:
        raise DataError("Reading LeRobot data sets needs pyarrow: pip install 'difftori-pl[lerobot]'.") from error
    return module


def _as_array(column: Any, where: str) -> npt.NDArray[Any]:
    import pyarrow.types as types

    array, n_rows, size = column.combine_chunks(), len(column), 1
    while True:
        if array.null_count:
            raise DataError(
                f"{where}: expected a value in every row, found {array.null_count} without one. Remove them."
            )
        if types.is_fixed_size_list(array.type):
            size *= array.type.list_size
        elif types.is_list(array.type) or types.is_large_list(array.type):
            sizes = np.unique(array.value_lengths().to_numpy())
            if len(sizes) > 1:
                raise DataError(
                    f"{where}: expected lists of one size, found sizes from {sizes[0]} to {sizes[-1]}. Remove the "
                    "episodes of another size."
                )
            size *= int(sizes[0]) if len(sizes) else 1
        else:
            break
        array = array.flatten()
    if not (types.is_integer(array.type) or types.is_floating(array.type) or types.is_boolean(array.type)):
        raise DataError(f"{where}: expected numbers, found {array.type}. Remove the key from the configuration.")
    return array.to_numpy(zero_copy_only=False).reshape(n_rows, size)
