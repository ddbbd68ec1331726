"""Read a checkpoint without executing code, verify it, and migrate it to the current schema."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from difftori_pl.errors import CheckpointError

KEY = "difftori"
"""Key of the description in a checkpoint; see `difftori_pl.checkpoints.provenance`."""

SCHEMA = 2
"""Version of the layout of checkpoints, incremented with each change that older versions cannot read."""


def read_checkpoint(path: str, remedy: str) -> dict[str, Any]:
    """Read a file of tensors and plain values; nothing in it is executed.

    Args:
        path: the file.
        remedy: how to get a checkpoint, for the error message if the file does not exist.

    Raises:
        CheckpointError: the file does not exist, is damaged, cannot be read safely, or a later version wrote it.
    """
    path = os.path.expanduser(path)
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


def migrate(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Convert a checkpoint of an earlier version to the current schema, in place.

    Args:
        content: the checkpoint.
        origin: name of the checkpoint in error messages.

    Raises:
        CheckpointError: a later version wrote it.
    """
    record = content.get(KEY, {})
    schema = record.get("schema", 0) if isinstance(record, dict) else None
    if not isinstance(schema, int) or schema < 0:
        raise CheckpointError(
            f"expected the schema of {origin} as a number, got {schema!r}: the file is damaged, use another checkpoint"
        )
    if schema > SCHEMA:
        raise CheckpointError(
            f"expected a checkpoint of schema {SCHEMA} or lower, got schema {schema} in {origin}: "
            f"update difftori-pl to {record.get('package', 'a later version')}"
        )
    for step in _MIGRATIONS[schema:]:
        step(content)
    return content


def _add_description(content: dict[str, Any]) -> None:
    """Add the description that checkpoints of schema 0, from before the first release, lack."""
    content[KEY] = {"schema": 1}


def _specify(content: dict[str, Any]) -> None:
    """Convert the shapes of schema 1, where three dimensions meant an image and two a point cloud."""
    record = content[KEY]
    kinds, dtypes = {2: "point_cloud", 3: "image"}, {3: "uint8"}
    if "obs_shapes" in record:
        record["observations"] = {
            key: {
                "kind": kinds.get(len(shape), "vector"),
                "shape": tuple(shape),
                "dtype": dtypes.get(len(shape), "float32"),
            }
            for key, shape in record.pop("obs_shapes").items()
        }
    record["schema"] = 2


_MIGRATIONS: tuple[Callable[[dict[str, Any]], None], ...] = (_add_description, _specify)
"""Migration from each schema to the next."""


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
