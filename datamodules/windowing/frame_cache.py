"""Decoded images of a data set in one uncompressed file per key, from which the loaders read windows."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from lightning_utilities.core.rank_zero import rank_zero_info

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile
from datamodules.windowing.columns import Column
from datamodules.windowing.windows import Int64Array

DEFAULT_FOLDER = "~/.cache/difftori_pl/frames"

_CHUNK = 128
"""Frames to decode at a time; limits the memory for long episodes."""


class FrameCache:
    """The images of one key of a file, decoded once, at the training resolution.

    The cache is `<folder>/<identity>/<key>_<height>x<width>.npy`, an array (steps of all demos, height, width, 3) of
    uint8, and a file `.done` with one byte per demo, which is set once the frames of the demo are on disk. An
    interrupted call therefore continues with the next demo, and only the demos that are used are decoded; the file
    takes no disk space for the others. Processes that fill the same cache wait for each other.

    Args:
        folder: the folder of all caches; it can be deleted when no training runs.
        identity: hash of the data set's content, so that changed data get a new cache.
        file: the file.
        key: name of the column, e.g. "obs/images_front".
        size: height and width to scale the images to; None keeps the stored size.
    """

    def __init__(
        self, folder: str | os.PathLike[str], identity: str, file: DemoFile, key: str, size: tuple[int, int] | None
    ) -> None:
        self._file, self._key = file, key
        demos = file.demos()
        lengths = [file.length(demo) for demo in demos]
        self._numbers = {demo: number for number, demo in enumerate(demos)}
        self._ends = np.cumsum(lengths)
        self._starts = self._ends - lengths
        stored = file.shape(demos[0], key)[1:]
        self._is_scaled = size is not None and tuple(size) != tuple(stored[:2])
        self.step_shape = (*(size if size is not None else stored[:2]), 3)
        height, width, _ = self.step_shape
        name = re.sub(r"\W", "_", key.removeprefix("obs/"))
        self.path = Path(folder).expanduser() / identity[:16] / f"{name}_{height}x{width}.npy"
        self._done = self.path.with_suffix(".done")

    def column(self, demos: Sequence[str]) -> Column:
        """Decode the frames of these demos that are missing, and return the column of the demos.

        Raises:
            DataError: the disk is full, the cache cannot be written, or a frame cannot be decoded.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path.with_suffix(".lock")):
                self._create()
                missing = [demo for demo in demos if not self._is_done(demo)]
                if missing:
                    self._fill(missing)
        except OSError as error:
            raise DataError(
                f"{self.path}: the cache of decoded images cannot be written ({error}). Free space on the disk, or set "
                "data.init_args.frame_cache to a folder on another one."
            ) from error
        starts = [self._starts[self._numbers[demo]] for demo in demos]
        ends = [self._ends[self._numbers[demo]] for demo in demos]
        return MappedColumn(self.path, np.array(starts, np.int64), np.array(ends, np.int64))

    def _create(self) -> None:
        """Make the empty files, unless they exist with the right size."""
        shape = (int(self._ends[-1]), *self.step_shape)
        n_bytes = int(np.prod(shape))
        if self.path.is_file() and self._done.is_file() and self._done.stat().st_size == len(self._numbers):
            try:
                if np.load(self.path, mmap_mode="r").shape == shape:
                    return
            except (ValueError, OSError):
                pass  # a damaged file is written again
        self._done.write_bytes(bytes(len(self._numbers)))
        draft = self.path.with_suffix(".draft")
        with draft.open("wb") as stream:
            npy: Any = np.lib.format  # without types
            npy.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            os.truncate(stream.fileno(), stream.tell() + n_bytes)
        draft.replace(self.path)

    def _is_done(self, demo: str) -> bool:
        return self._done.read_bytes()[self._numbers[demo]] == 1

    def _fill(self, demos: Sequence[str]) -> None:
        n_frames = sum(self._file.length(demo) for demo in demos)
        frame = int(np.prod(self.step_shape))
        free = shutil.disk_usage(self.path.parent).free
        needed = n_frames * frame
        if needed > free:
            raise DataError(
                f"{self.path}: expected {needed / 1e9:.1f} GB of free space for decoded images, got {free / 1e9:.1f} "
                "GB. Set a smaller data.init_args.image_size, or frame_cache to a folder on another disk."
            )
        height, width, _ = self.step_shape
        rank_zero_info(
            f"decoding {n_frames} images of {self._key} at {height} x {width} into {self.path}: {needed / 1e6:.1f} MB"
        )
        header = self.path.stat().st_size - int(self._ends[-1]) * frame
        with self.path.open("r+b") as stream, self._done.open("r+b") as done:
            for demo in demos:
                stream.seek(header + int(self._starts[self._numbers[demo]]) * frame)
                for first in range(0, self._file.length(demo), _CHUNK):
                    images = self._file.read(demo, self._key, first, first + _CHUNK)
                    stream.write(np.ascontiguousarray(self._scaled(images)).data)
                stream.flush()
                os.fsync(stream.fileno())
                done.seek(self._numbers[demo])
                done.write(b"\1")
                done.flush()

    def _scaled(self, images: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        return scale_images(images, self.step_shape[:2]) if self._is_scaled else images.astype(np.uint8, copy=False)


class MappedColumn(Column):
    """Column of a memory-mapped array; each process maps the file at its first read.

    Args:
        path: an `.npy` file (N, ...).
        starts: first row of each episode, (n_episodes,).
        ends: row after the last one of each episode, (n_episodes,).
    """

    def __init__(self, path: Path, starts: Int64Array, ends: Int64Array) -> None:
        self._path, self._starts, self._ends = path, starts, ends
        self._mapped: npt.NDArray[Any] | None = None
        self.step_shape = self._values.shape[1:]

    @property
    def _values(self) -> npt.NDArray[Any]:
        if self._mapped is None:
            self._mapped = np.asarray(np.load(self._path, mmap_mode="r"))
        return self._mapped

    def __getstate__(self) -> dict[str, Any]:
        # A pickled memory map would contain the whole array.
        return {**self.__dict__, "_mapped": None}

    def gather(self, episodes: Int64Array, steps: Int64Array) -> npt.NDArray[Any]:
        """Fetch windows; see `Column`."""
        return self._values.take(self._starts[episodes, None] + steps, axis=0)

    def episodes(self) -> Iterator[npt.NDArray[Any]]:
        """Iterate over the episodes; see `Column`."""
        return (self._values[first:end] for first, end in zip(self._starts, self._ends, strict=True))


def scale_images(images: npt.NDArray[np.uint8], size: tuple[int, ...]) -> npt.NDArray[np.uint8]:
    """Scale images (N, height, width, 3) to another height and width, bilinearly with anti-aliasing."""
    from PIL import Image

    height, width = size
    scaled = np.empty((len(images), height, width, 3), np.uint8)
    for at, image in enumerate(images):
        scaled[at] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    return scaled


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
