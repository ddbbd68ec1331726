"""Faults of Push-T files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.formats.faults import Fault, is_numeric, merge, not_finite, out_of_range

ENDS = "meta/episode_ends"
BOARD = 512.0
"""Width and height of the board in pixels; positions and actions lie between 0 and this value."""

STEP_SHAPES: dict[str, tuple[int | None, ...]] = {
    "data/action": (2,),
    "data/state": (5,),
    "data/keypoint": (9, 2),
    "data/img": (None, None, 3),
}
"""Shape of one step of each array; None for any size."""


def episode_ends(handle: Any) -> npt.NDArray[np.int64]:
    """Read the step after the last one of each episode, (n_episodes,)."""
    return np.asarray(handle[ENDS][:], np.int64)


def file_faults(handle: Any, where: str, names: Sequence[str]) -> list[Fault]:
    """Return the faults of the arrays as a whole.

    Args:
        handle: the open zarr group.
        where: name of the folder, for the messages.
        names: the required arrays, e.g. "data/state".
    """
    if ENDS not in handle:
        advice = "Without it the episodes cannot be told apart: download the file again."
        return [Fault("no_episode_ends", where, f"expected an array {ENDS}, found none", advice)]
    faults = [*_wrong_ends(handle), *(fault for name in names for fault in _wrong_array(handle, where, name))]
    return faults or list(_wrong_lengths(handle, where, names))


def _wrong_ends(handle: Any) -> Iterator[Fault]:
    ends = handle[ENDS]
    if ends.dtype.kind not in "iu" or len(ends.shape) != 1:
        problem = f"expected whole numbers (episodes,), found {ends.dtype} {tuple(ends.shape)}"
        yield Fault("episode_ends", ENDS, problem, "Write it again in that shape.")
        return
    values = episode_ends(handle)
    if len(values) == 0:
        yield Fault("no_demos", ENDS, "expected at least one episode, found none", "Download the file again.")
        return
    empty = np.diff(values, prepend=0) <= 0
    if empty.any():
        at = int(np.argmax(empty))
        problem = f"expected increasing steps, found {values[at]} after {values[at - 1] if at else 0}"
        yield Fault("episode_ends", f"{ENDS}, episode {at}", problem, "The episode has no steps: remove it.")


def _wrong_array(handle: Any, where: str, name: str) -> Iterator[Fault]:
    if name not in handle:
        found = ", ".join(sorted(handle["data"])) if "data" in handle else "none"
        problem = f"expected an array {name}, found {found} under data"
        yield Fault(
            "missing_array",
            where,
            problem,
            "Remove its key from the configuration, or use a file that has the array.",
            name,
        )
        return
    array, expected = handle[name], STEP_SHAPES[name]
    fits = is_numeric(array) and len(array.shape) == len(expected) + 1
    if not fits or any(size not in (None, found) for size, found in zip(expected, array.shape[1:], strict=True)):
        step = ", ".join("any" if size is None else str(size) for size in expected)
        problem = f"expected {name} of shape (steps, {step}), found {tuple(array.shape)}"
        if not is_numeric(array):
            problem = f"expected numbers in {name}, found {array.dtype}"
        advice = "Check that the file is from Push-T."
        if len(array.shape) == 4 and array.shape[1] == 3:
            advice = "The channels come first: write the images with the channels last."
        yield Fault("shape", where, problem, advice, name)
        return
    # zarr silently fills a missing chunk with zeros.
    n_missing = array.nchunks - array.nchunks_initialized
    if n_missing:
        problem = f"expected {array.nchunks} chunks of {name}, found {array.nchunks - n_missing}"
        yield Fault("missing_chunks", where, problem, "The copy is incomplete: copy it again.", name)


def _wrong_lengths(handle: Any, where: str, names: Sequence[str]) -> Iterator[Fault]:
    end = episode_ends(handle)[-1]
    for name in names:
        n_steps = handle[name].shape[0]
        if n_steps != end:
            problem = f"expected {end} steps in {name}, as in {ENDS}, found {n_steps}"
            yield Fault("length", where, problem, "The file is truncated or edited: download it again.", name)


def demo_faults(handle: Any, spans: Mapping[str, tuple[int, int]], names: Sequence[str]) -> list[Fault]:
    """Return wrong numbers in episodes of valid arrays; equal faults are reported once and counted.

    Args:
        handle: the open zarr group.
        spans: first step of each episode in the arrays and the step after its last one, by the episode's name.
        names: the required arrays, e.g. "data/state".
    """
    return merge(fault for name in names if name != "data/img" for fault in _wrong_values(handle, spans, name))


def _wrong_values(handle: Any, spans: Mapping[str, tuple[int, int]], name: str) -> Iterator[Fault]:
    # Neighbouring episodes share chunks, so read the whole array once.
    array = np.asarray(handle[name][:])
    for demo, span in spans.items():
        values = array[slice(*span)]
        fault = not_finite(demo, name, values)
        if fault is None and name == "data/action":
            expected = f"positions from 0 to {BOARD:g} in {name}"
            advice = "Remove the episode, or correct the program that wrote it."
            fault = out_of_range(demo, values, 0.0, BOARD, expected, advice)
        if fault is not None:
            yield fault
