"""Find the files that the evaluations of a checkpoint have written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning import Trainer


def identify_run(trainer: Trainer, folder: Path) -> dict[str, Any]:
    """Identify the training run of the evaluated policy, so that its evaluations are not taken for several runs.

    Args:
        trainer: the trainer of the evaluation.
        folder: the log folder of the evaluation.

    Returns:
        `run` (folder of the training run), `stage` (`test` or `fit`) and `checkpoint` (name of the tested file).
    """
    if trainer.testing and trainer.ckpt_path:
        folder = Path(trainer.ckpt_path).parent
        folder = folder.parent if folder.name == "checkpoints" else folder
    checkpoint = Path(trainer.ckpt_path).name if trainer.testing and trainer.ckpt_path else None
    return {"run": str(folder.resolve()), "stage": "test" if trainer.testing else "fit", "checkpoint": checkpoint}


def descriptions_of(checkpoint: Path, pattern: str) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the evaluations of a checkpoint's run in training, and the tests of the checkpoint, the oldest first.

    Args:
        checkpoint: a `.ckpt` file in its run's folder `<version>/checkpoints`, or next to the run's files.
        pattern: pattern of the names of the JSON files, each with the entries of `identify_run`.

    Returns:
        Paths with the contents of the files.
    """
    checkpoint = checkpoint.resolve()
    in_run = checkpoint.parent.name == "checkpoints"
    run = checkpoint.parents[1] if in_run else checkpoint.parent
    files = run.parent.glob(f"*/{pattern}") if in_run else run.glob(pattern)
    for path in sorted(files, key=lambda path: path.stat().st_mtime):
        description = json.loads(path.read_text())
        if _fits(description, path, run, checkpoint.name):
            yield path, description


def _fits(description: dict[str, Any], path: Path, run: Path, name: str) -> bool:
    if description.get("stage") == "fit":
        return path.parent == run
    # The last two parts, because a run may have been moved.
    same_run = Path(description.get("run", "")).parts[-2:] == run.parts[-2:]
    return description.get("stage") == "test" and same_run and description.get("checkpoint") == name
