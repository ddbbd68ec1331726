"""Reading a checkpoint: whole, without executing anything, and brought up to today's schema."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from difftori_pl.errors import CheckpointError

KEY = "difftori"
"""Where a checkpoint says what it is; see `difftori_pl.checkpoints.provenance`."""

SCHEMA = 2
"""Version of the layout of checkpoints; one more with each change that older programs could not read."""


def read_checkpoint(path: str, remedy: str) -> dict[str, Any]:
    """Read a file of tensors and plain values; nothing in it is executed.

    Args:
        path: the file.
        remedy: where to get one, for the message if there is none.

    Raises:
        CheckpointError: there is no such file, it is damaged, it cannot be read safely, or a later version wrote it.
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
    except pickle.UnpicklingError as error:  # whose message advises to run the program
        raise CheckpointError(
            f"{path} is not a readable checkpoint of tensors and plain values: it is damaged, or names programs to run"
        ) from error
    except Exception as error:  # torch and zipfile raise a dozen kinds for a damaged or a foreign file
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CheckpointError(f"{path} is not a readable checkpoint of tensors and plain values: {reason}") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__} where a checkpoint is a dictionary")
    return migrate(content, path)


def migrate(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Bring a checkpoint of an earlier version up to today's schema, in place.

    Args:
        content: the checkpoint.
        origin: what errors call it.

    Raises:
        CheckpointError: a later version wrote it.
    """
    record = content.get(KEY, {})
    schema = record.get("schema", 0) if isinstance(record, dict) else None
    if not isinstance(schema, int) or schema < 0:
        raise CheckpointError(f"{origin} does not say which schema it has: expected a number, found {schema!r}")
    if schema > SCHEMA:
        raise CheckpointError(
            f"{origin} has schema {schema}, this version knows schemas up to {SCHEMA}: update difftori-pl to "
            f"{record.get('package', 'a later version')}"
        )
    for step in _MIGRATIONS[schema:]:
        step(content)
    return content


def _say_nothing(content: dict[str, Any]) -> None:
    """Schema 0, before the first release, said nothing of itself."""
    content[KEY] = {"schema": 1}


def _specify(content: dict[str, Any]) -> None:
    """Schema 1 had only the shapes of observations: all of three dimensions were images, of two point clouds."""
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


_MIGRATIONS: tuple[Callable[[dict[str, Any]], None], ...] = (_say_nothing, _specify)
"""The step from each schema to the next one."""


def _check_sums(path: str) -> None:
    """Compare the check sums of a zip archive, which torch writes but does not compare: a flipped bit would pass."""
    if not zipfile.is_zipfile(path):
        return  # torch's old format, which robomimic may have written
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise CheckpointError("its entries are compressed, which torch never does")
        damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f"the check sum of {damaged} is wrong, the file is damaged")
