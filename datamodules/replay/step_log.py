"""Append-only storage of steps, in memory up to a limit and in memory-mapped files beyond it."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import numpy as np

from datamodules.errors import DataError

Array: TypeAlias = np.ndarray[Any, Any]

CHUNK_STEPS = 4096
"""Number of steps in a chunk: 87 MB for 84x84 RGB images, and 250 files for a million steps."""


class Manifest(TypedDict):
    """The state of a `StepLog` in a checkpoint: plain values that refer to the files with the steps.

    Attributes:
        end: total number of appended steps, including dropped ones.
        fields: name, type and shape of each field of a step.
        chunks: number, file name and number of saved steps of each chunk.
    """

    end: int
    fields: list[tuple[str, str, list[int]]]
    chunks: list[tuple[int, str, int]]


@dataclass
class _Chunk:
    """A block of consecutive steps.

    Attributes:
        number: index of the chunk, counting dropped chunks.
        file: name of the file.
        steps: (CHUNK_STEPS,) records.
        n_saved: number of records in the file.
    """

    number: int
    file: str
    steps: Array
    n_saved: int = 0


class StepLog:
    """Log of steps, numbered in the order in which they were appended; the oldest chunks are dropped.

    Stored steps never change. Saving therefore only appends the new steps to the files, without a copy in memory. If
    the process is killed while it writes, the steps of earlier saves stay intact.

    Args:
        dtype: a structured dtype with the fields of a step.
        n_steps: minimum number of steps to keep.
        memory_limit: number of bytes to keep in memory; older chunks are read from their files.
        folder: the folder of the files; None creates a temporary folder.
    """

    def __init__(self, dtype: np.dtype[Any], n_steps: int, memory_limit: int, folder: Path | None = None) -> None:
        self.dtype = dtype
        self.max_chunks = -(-n_steps // CHUNK_STEPS) + 1
        self.memory_limit = memory_limit
        self.end = 0
        self.folder = folder or Path(tempfile.mkdtemp(prefix="replay_"))
        self._leave = None if folder else weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self._chunks: dict[int, _Chunk] = {}
        self._still_needed: set[str] = set()

    @property
    def start(self) -> int:
        """Number of the oldest stored step."""
        return min(self._chunks, default=0) * CHUNK_STEPS

    @property
    def capacity(self) -> int:
        """Maximum number of stored steps; their numbers are distinct modulo this value."""
        return self.max_chunks * CHUNK_STEPS

    def append(self, steps: Array) -> None:
        """Add records (N,) of the log's dtype."""
        while len(steps):
            number, offset = divmod(self.end, CHUNK_STEPS)
            if offset == 0:
                self._begin(number)
            taken = steps[: CHUNK_STEPS - offset]
            self._chunks[number].steps[offset : offset + len(taken)] = taken
            self.end += len(taken)
            steps = steps[len(taken) :]

    def read(self, numbers: Array) -> Array:
        """Return the records (...) of the steps with these `numbers` (...), each in [start, end)."""
        flat = numbers.ravel()
        found = np.empty(len(flat), dtype=self.dtype)
        chunks, offsets = np.divmod(flat, CHUNK_STEPS)
        for number in np.unique(chunks):
            here = chunks == number
            found[here] = self._chunks[int(number)].steps[offsets[here]]
        return found.reshape(numbers.shape)

    def field(self, name: str) -> Array:
        """Return one field of all stored steps, oldest first."""
        values = np.concatenate([chunk.steps[name] for _, chunk in sorted(self._chunks.items())])
        return values[: self.end - self.start]

    def save(self, folder: Path) -> Manifest:
        """Write the new steps to `folder` and delete files that neither this save nor the previous one needs.

        Raises:
            DataError: the files cannot be written, e.g. because the disk is full; earlier saves stay intact.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if folder != self.folder:
                self._move(folder)
            for chunk in self._chunks.values():
                self._write(chunk)
            self._forget()
        except OSError as error:
            raise DataError(
                f"the replay buffer cannot be saved in {folder} ({error}): make room and resume from the last "
                "checkpoint, which is still whole"
            ) from error
        chunks = [(chunk.number, chunk.file, chunk.n_saved) for chunk in self._chunks.values()]
        return {"end": self.end, "fields": to_fields(self.dtype), "chunks": chunks}

    @classmethod
    def load(cls, manifest: Manifest, folder: Path, n_steps: int, memory_limit: int) -> StepLog:
        """Restore a log from a save.

        Raises:
            DataError: a file is missing or too short.
        """
        dtype = from_fields(manifest["fields"])
        log = cls(dtype, n_steps, memory_limit, folder)
        log.end = manifest["end"]
        for number, file, n_saved in manifest["chunks"]:
            path = folder / file
            if not path.exists() or path.stat().st_size < n_saved * dtype.itemsize:
                raise DataError(
                    f"{path}: expected the {n_saved} steps to which the checkpoint refers, but the file is missing or "
                    f"too short: keep the folder {folder.name} next to the checkpoint, and resume from the latest one "
                    "(steps that a full buffer drops are deleted)"
                )
            if n_saved == CHUNK_STEPS:
                log._chunks[number] = _Chunk(number, file, log._mapped(file), n_saved)
                continue
            # The file may already hold steps of a later checkpoint: continue in a new file.
            chunk = _Chunk(number, _file_name(number), np.empty(CHUNK_STEPS, dtype=dtype))
            chunk.steps[:n_saved] = np.fromfile(path, dtype=dtype, count=n_saved)
            log._chunks[number] = chunk
            log._still_needed.add(file)
        log._fit_memory()
        return log

    def _begin(self, number: int) -> None:
        self._chunks[number] = _Chunk(number, _file_name(number), np.empty(CHUNK_STEPS, dtype=self.dtype))
        while len(self._chunks) > self.max_chunks:
            del self._chunks[min(self._chunks)]
        self._fit_memory()

    def _fit_memory(self) -> None:
        """Map the oldest chunks beyond the memory limit from their files and load the others into memory."""
        room = max(self.memory_limit // (CHUNK_STEPS * self.dtype.itemsize), 1)
        for position, number in enumerate(sorted(self._chunks, reverse=True)):
            chunk = self._chunks[number]
            mapped = isinstance(chunk.steps, np.memmap)
            if position < room and mapped:
                chunk.steps = np.array(chunk.steps)
            elif position >= room and not mapped:
                self._write(chunk)
                chunk.steps = self._mapped(chunk.file)

    def _mapped(self, file: str) -> Array:
        return np.memmap(self.folder / file, dtype=self.dtype, mode="r", shape=(CHUNK_STEPS,))

    def _write(self, chunk: _Chunk) -> None:
        n_steps = min(self.end - chunk.number * CHUNK_STEPS, CHUNK_STEPS)
        if chunk.n_saved == n_steps:
            return
        path = self.folder / chunk.file
        with path.open("r+b" if path.exists() else "wb") as file:
            file.seek(chunk.n_saved * self.dtype.itemsize)
            file.write(chunk.steps[chunk.n_saved : n_steps].view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
        chunk.n_saved = n_steps

    def _move(self, folder: Path) -> None:
        """Move to another folder; full chunks are hard-linked if the file system supports it, otherwise copied."""
        old = self.folder
        self.folder = folder
        for chunk in self._chunks.values():
            if chunk.n_saved == CHUNK_STEPS:
                try:
                    os.link(old / chunk.file, folder / chunk.file)
                except FileExistsError:
                    pass
                except OSError:
                    shutil.copyfile(old / chunk.file, folder / chunk.file)
                if isinstance(chunk.steps, np.memmap):
                    chunk.steps = self._mapped(chunk.file)
            else:
                chunk.n_saved = 0
        self._still_needed.clear()
        if self._leave:
            self._leave()

    def _forget(self) -> None:
        needed = {chunk.file for chunk in self._chunks.values()}
        for path in self.folder.glob("*.steps"):
            if path.name not in needed | self._still_needed:
                path.unlink()
        self._still_needed = needed


def to_fields(dtype: np.dtype[Any]) -> list[tuple[str, str, list[int]]]:
    """Describe a structured dtype by plain values."""
    fields: Mapping[str, Any] = dtype.fields or {}
    return [(name, part.base.str, list(part.shape)) for name, (part, *_) in fields.items()]


def from_fields(fields: list[tuple[str, str, list[int]]]) -> np.dtype[Any]:
    """Return the structured dtype of a description, aligned so that each field is a valid array."""
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in fields], align=True)


def _file_name(number: int) -> str:
    return f"{number:06d}_{uuid.uuid4().hex[:8]}.steps"
