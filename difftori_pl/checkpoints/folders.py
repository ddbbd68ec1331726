"""Find the checkpoints of a run in its folder."""

from pathlib import Path

from difftori_pl.errors import CheckpointError


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


def chosen(folder: Path) -> Path:
    """Return the selected checkpoint of a run: the newest `best.ckpt`, or `last.ckpt` if nothing was selected.

    Raises:
        CheckpointError: the folder holds neither.
    """
    path = newest(folder, "best") or newest(folder, "last")
    if path is None:
        raise CheckpointError(
            f"expected the folder of a run, got {folder} without best.ckpt and last.ckpt: name a checkpoint, or the "
            "folder that contains `checkpoints`"
        )
    return path
