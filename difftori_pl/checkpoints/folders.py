"""Find the checkpoints of a run in its folder."""

import os
from collections.abc import Sequence
from pathlib import Path

from difftori_pl.checkpoints.shared_folder import is_shared


def newest(folder: Path, name: str) -> Path | None:
    """Return the newest checkpoint of a name in a folder of checkpoints, of a run or of several versions of a run.

    Args:
        folder: `<log folder>/checkpoints`, `<log folder>`, or the folder above it.
        name: `last` or `best`. Lightning adds a number if a file exists: `last-v1.ckpt`.
    """
    found = [
        path for pattern in ("", "checkpoints/", "*/checkpoints/") for path in folder.glob(f"{pattern}{name}*.ckpt")
    ]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def resolve(path: str, names: Sequence[str] = ("best", "last")) -> str:
    """Return a checkpoint of a run if `path` is the folder of one, else `path` itself.

    The folder of a shared policy is returned as it is: checkpoints in it are not read, because they may name any class.

    Args:
        path: file or folder; `~` is the home folder.
        names: kinds of checkpoints by preference: the newest `best.ckpt`, or `last.ckpt` if the run selected none.
    """
    path = os.path.expanduser(path)
    if is_shared(path):
        return path
    found = [newest(Path(path), name) for name in names] if os.path.isdir(path) else []
    return str(next((file for file in found if file is not None), path))
