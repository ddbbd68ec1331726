"""Writing a checkpoint whole or not at all."""

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
    """Lightning's plugin for checkpoints, hardened: what was saved before is never lost, and nothing half-read.

    A checkpoint is written beside its place, flushed to the disk, and then renamed: whoever is killed in between leaves
    the checkpoint before it. Reading compares the check sums of the file, executes nothing, and knows the layouts of
    all earlier versions. The command line uses it by default; in Python: `Trainer(plugins=[AtomicCheckpointIO()])`.
    Addresses of remote storage (`s3://...`) are left to Lightning, but for `weights_only`.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        """Save; see `CheckpointIO`.

        Raises:
            CheckpointError: it cannot be written, for instance because the disk is full.
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
                f"the checkpoint {place} cannot be written ({reason}): make room, or name another folder "
                "(trainer.logger.init_args.save_dir), and resume from the last checkpoint, which is still whole"
            ) from error

    def load_checkpoint(
        self, path: str | Path, map_location: Callable[..., Any] | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Load to the CPU, whatever `map_location`, and never anything but tensors and plain values.

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
    """Make a rename survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _system_error(error: BaseException | None) -> OSError | None:
    """What the system said: torch raises an error of its own while it handles the first one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error
