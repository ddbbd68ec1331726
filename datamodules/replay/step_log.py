"""Steps in the order of their arrival, kept in memory or, past a limit, in memory-mapped files."""

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
"""Steps in a chunk: 87 MB of 84x84 pictures, and 250 files for a million of them."""


class Manifest(TypedDict):
    """What a checkpoint keeps of a `StepLog`: plain values, which say which files hold the steps.

    Attributes:
        end: number of steps that ever came.
        fields: name, type and shape of each field of a step.
        chunks: number, file name and number of saved steps of each chunk.
    """

    end: int
    fields: list[tuple[str, str, list[int]]]
    chunks: list[tuple[int, str, int]]


@dataclass
class _Chunk:
    """Consecutive steps.

    Attributes:
        number: chunks are counted from the first ever.
        file: name of the file.
        steps: (CHUNK_STEPS,) records.
        n_saved: how many of them the file holds.
    """

    number: int
    file: str
    steps: Array
    n_saved: int = 0


class StepLog:
    """Records addressed by the number of those that ever came before; the oldest chunks are dropped.

    A step is never changed. Saving therefore writes only what is new, behind what earlier saves wrote: no copy is made
    in memory, and a process that is killed while it writes leaves all that earlier saves refer to as it was.

    Args:
        dtype: a structured dtype, the fields of a step.
        n_steps: how many steps to keep at least, if so many came.
        memory_limit: bytes to keep in memory; older chunks are read from their files.
        folder: where the files are; a temporary folder if None.
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
        """Number of the oldest step that is kept."""
        return min(self._chunks, default=0) * CHUNK_STEPS

    @property
    def capacity(self) -> int:
        """Number of steps that are kept at most: no two of them are equal modulo this."""
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
        """Records of the steps with these `numbers` (...), each from `start` to `end`; shape (...)."""
        flat = numbers.ravel()
        found = np.empty(len(flat), dtype=self.dtype)
        chunks, offsets = np.divmod(flat, CHUNK_STEPS)
        for number in np.unique(chunks):
            here = chunks == number
            found[here] = self._chunks[int(number)].steps[offsets[here]]
        return found.reshape(numbers.shape)

    def field(self, name: str) -> Array:
        """Read one field of all steps that are kept, from the oldest on."""
        values = np.concatenate([chunk.steps[name] for _, chunk in sorted(self._chunks.items())])
        return values[: self.end - self.start]

    def save(self, folder: Path) -> Manifest:
        """Bring the files in `folder` up to date; files that neither this nor the last save needs are deleted.

        Raises:
            DataError: the files cannot be written, for instance because the disk is full; earlier saves stay whole.
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
        """Go on from a save.

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
                    f"{path} does not hold the {n_saved} steps that the checkpoint refers to: keep the folder "
                    f"{folder.name} beside the checkpoint; steps that a full buffer dropped are deleted"
                )
            if n_saved == CHUNK_STEPS:
                log._chunks[number] = _Chunk(number, file, log._mapped(file), n_saved)
                continue
            # The file may already hold steps of a later checkpoint: go on in another one.
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
        """Leave to the files what exceeds the limit, oldest first, and take from them what fits."""
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
        """Take the files along to another folder; whole chunks as links, where the file system has them."""
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
    """Describe a structured dtype in plain values."""
    fields: Mapping[str, Any] = dtype.fields or {}
    return [(name, part.base.str, list(part.shape)) for name, (part, *_) in fields.items()]


def from_fields(fields: list[tuple[str, str, list[int]]]) -> np.dtype[Any]:
    """The structured dtype of a description; aligned, so that each field is a valid array."""
    return np.dtype([(name, kind, tuple(shape)) for name, kind, shape in fields], align=True)


def _file_name(number: int) -> str:
    return f"{number:06d}_{uuid.uuid4().hex[:8]}.steps"
