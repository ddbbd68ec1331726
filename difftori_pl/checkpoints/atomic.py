"""Write checkpoints atomically."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.errors import CheckpointError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning checkpoint plugin that writes atomically and reads safely.

    A checkpoint is written to a temporary file in the same folder, flushed to the disk, and then renamed. A process
    that is killed while writing therefore leaves the previous checkpoint intact. Reading verifies the check sums of the
    file, executes nothing, and accepts the layouts of all earlier versions. The command line uses this plugin by
    default; in Python, use `Trainer(plugins=[AtomicCheckpointIO()])`. Lightning handles addresses of remote storage
    (`s3://...`), always with `weights_only`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save a checkpoint; see `CheckpointIO`.

        Raises:
            CheckpointError: the file cannot be written, for instance because the disk is full.
        """
        if _is_remote(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        place = Path(path)
        part = place.with_name(f".{place.name}.part")
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with part.open("wb") as file:
                    torch.save(checkpoint, file)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(place)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
            _flush_folder(place.parent)
        except (OSError, RuntimeError) as error:
            reason = _system_error(error)
            if reason is None:
                raise
            raise CheckpointError(
                f"the checkpoint {place} cannot be written ({reason}): free disk space, or choose another folder "
                "(trainer.logger.init_args.save_dir), and resume from the last checkpoint, which is intact"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load tensors and plain values to the CPU; `map_location` and `weights_only` are ignored.

        Raises:
            CheckpointError: see `read_checkpoint`.
        """
        del weights_only
        if _is_remote(path):
            return super().load_checkpoint(path, weights_only=True)
        return read_checkpoint(os.fspath(path), "training writes them to <log folder>/checkpoints/")


def _is_remote(path: str | Path) -> bool:
    return "://" in os.fspath(path)


def _flush_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename survives a power failure."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _system_error(error: BaseException | None) -> OSError | None:
    """Return the system's error behind an exception: torch raises another error while it handles the first one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
