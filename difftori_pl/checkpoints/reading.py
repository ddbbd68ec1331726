"""Read a checkpoint without executing code, verify it, and migrate it to the current schema."""

import os
import pickle
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from difftori_pl.checkpoints.migrations import KEY as KEY
from difftori_pl.checkpoints.migrations import SCHEMA as SCHEMA
from difftori_pl.checkpoints.migrations import migrate as migrate
from difftori_pl.checkpoints.shared_folder import is_shared, read_shared
from difftori_pl.errors import CheckpointError


def read_checkpoint(path: str, remedy: str, allow: Sequence[str] | None = ()) -> dict[str, Any]:
    """Read a file of tensors and plain values; nothing in it is executed.

    Args:
        path: the file, or the folder of a shared policy.
        remedy: how to get a checkpoint, for the error message if the file does not exist.
        allow: import paths of classes outside this package that a shared policy may name; None accepts all.

    Raises:
        CheckpointError: the file does not exist, is damaged, cannot be read safely, or a later version wrote it.
    """
    path = os.path.expanduser(path)
    if is_shared(path):
        return read_shared(path, allow)
    if Path(path).is_dir():
        found = sorted(Path(path).rglob("*.ckpt"), key=lambda file: file.stat().st_mtime)
        advice = f"its newest checkpoint is {found[-1]}" if found else f"there is no .ckpt file in it; {remedy}"
        raise CheckpointError(f"{path} is a folder, not a checkpoint: {advice}")
    if not Path(path).is_file():
        raise CheckpointError(f"there is no checkpoint {path}; {remedy}")
    try:
        _check_sums(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:  # torch's message advises to load the file unsafely
        raise CheckpointError(
            f"{path} is not a readable checkpoint of tensors and plain values: it is damaged, or contains code to "
            "execute"
        ) from error
    except Exception as error:  # torch and zipfile raise many types for files that are damaged or no checkpoints
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} is not a readable checkpoint of tensors and plain values: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"expected a dictionary in the checkpoint {path}, got a {type(content).__name__}: name a checkpoint of "
            "Lightning"
        )
    return migrate(content, path)


def _check_sums(path: str) -> None:
    """Verify the check sums of a zip archive: torch writes them but does not verify them."""
    if not zipfile.is_zipfile(path):
        return  # torch's old format, which robomimic may write
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError("its entries are compressed, but torch never compresses them")
        damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"the check sum of {damaged} is wrong, the file is damaged")
