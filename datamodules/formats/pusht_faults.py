"""What can be wrong with a Push-T file, each rule once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from datamodules.formats.faults import Fault, is_numeric, merge, not_finite, out_of_range

if TYPE_CHECKING:
    from datamodules.formats.pusht_file import PushTFile

ENDS = "meta/episode_ends"
BOARD = 512.0
"""Width and height of the board, in pixels: positions and actions lie between 0 and this."""

STEP_SHAPES: dict[str, tuple[int | None, ...]] = {
    "data/action": (2,),
    "data/state": (5,),
    "data/keypoint": (9, 2),
    "data/img": (None, None, 3),
}
"""Shape of one step of each array; None for any size."""


def file_faults(file: PushTFile, names: Sequence[str]) -> list[Fault]:
    """Find what is wrong with the arrays as a whole.

    Args:
        file: the file.
        names: the arrays that it is wanted for, e.g. "data/state".

    Raises:
        DataError: it cannot be opened.
    """
    if ENDS not in file.handle:
        advice = "Without it the episodes cannot be told apart: download the file again."
        return [Fault("no_episode_ends", file.path.name, f"expected an array {ENDS}, found none", advice)]
    faults = [*_wrong_ends(file), *(fault for name in names for fault in _wrong_array(file, name))]
    return faults or list(_wrong_lengths(file, names))


def _wrong_ends(file: PushTFile) -> Iterator[Fault]:
    ends = file.handle[ENDS]
    if ends.dtype.kind not in "iu" or len(ends.shape) != 1:
        problem = f"expected whole numbers (episodes,), found {ends.dtype} {tuple(ends.shape)}"
        yield Fault("episode_ends", ENDS, problem, "Write it again in that shape.")
        return
    values = file.ends()
    if len(values) == 0:
        yield Fault("no_demos", ENDS, "expected at least one episode, found none", "Download the file again.")
        return
    empty = np.diff(values, prepend=0) <= 0
    if empty.any():
        at = int(np.argmax(empty))
        problem = f"expected steps that increase, found {values[at]} after {values[at - 1] if at else 0}"
        yield Fault("episode_ends", f"{ENDS}, episode {at}", problem, "An episode without steps: remove it.")


def _wrong_array(file: PushTFile, name: str) -> Iterator[Fault]:
    if name not in file.handle:
        found = ", ".join(sorted(file.handle["data"])) if "data" in file.handle else "none"
        problem = f"expected an array {name}, found {found} under data"
        yield Fault("missing_array", file.path.name, problem, "Do not name its key, or use a file that has it.", name)
        return
    array, wanted = file.handle[name], STEP_SHAPES[name]
    fits = is_numeric(array) and len(array.shape) == len(wanted) + 1
    if not fits or any(size not in (None, found) for size, found in zip(wanted, array.shape[1:], strict=True)):
        step = ", ".join("any" if size is None else str(size) for size in wanted)
        problem = f"expected {name} of shape (steps, {step}), found {tuple(array.shape)}"
        if not is_numeric(array):
            problem = f"expected numbers in {name}, found {array.dtype}"
        advice = "Is it the file of another task?"
        if len(array.shape) == 4 and array.shape[1] == 3:
            advice = "The channels come first: write the images again with the channels last."
        yield Fault("shape", file.path.name, problem, advice, name)
        return
    # zarr silently fills a missing chunk with zeros.
    n_missing = array.nchunks - array.nchunks_initialized
    if n_missing:
        problem = f"expected {array.nchunks} chunks of {name}, found {array.nchunks - n_missing}"
        yield Fault("missing_chunks", file.path.name, problem, "The copy is not complete: copy it again.", name)


def _wrong_lengths(file: PushTFile, names: Sequence[str]) -> Iterator[Fault]:
    end = file.ends()[-1]
    for name in names:
        n_steps = file.handle[name].shape[0]
        if n_steps != end:
            problem = f"expected {end} steps in {name}, as {ENDS} says, found {n_steps}"
            yield Fault("length", file.path.name, problem, "The file was cut or edited: download it again.", name)


def demo_faults(file: PushTFile, demos: Sequence[str], names: Sequence[str]) -> list[Fault]:
    """Find wrong numbers in these episodes of sound arrays; equal faults are reported once and counted."""
    return merge(fault for name in names if name != "data/img" for fault in _wrong_values(file, demos, name))


def _wrong_values(file: PushTFile, demos: Sequence[str], name: str) -> Iterator[Fault]:
    # One read of the array: the chunks of neighbouring episodes overlap.
    array = np.asarray(file.handle[name][:])
    for demo in demos:
        values = array[slice(*file.span(demo))]
        fault = not_finite(demo, name, values)
        if fault is None and name == "data/action":
            wanted, advice = f"positions from 0 to {BOARD:g} in {name}", "Remove the episode, or find what wrote it."
            fault = out_of_range(demo, values, 0.0, BOARD, wanted, advice)
        if fault is not None:
            yield fault
