"""Reading Push-T demonstrations: the zarr file of Diffusion Policy (arXiv:2303.04137), version 2, never written."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.damage import clear_errors
from datamodules.demo_file import DemoFile
from datamodules.errors import DataError
from datamodules.faults import Fault

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

SOURCES = {
    "actions": "data/action",
    "obs/state": "data/state",
    "obs/agent_pos": "data/state",
    "obs/keypoint": "data/keypoint",
    "obs/img": "data/img",
}
"""The array that each column comes from."""


class PushTFile(DemoFile):
    """The public Push-T file: one array of all episodes for each quantity, cut by `meta/episode_ends`.

    The columns are those of `difftori_pl.envs.PushT`: positions in pixels of the board, keypoints flattened,
    `agent_pos` the first two numbers of `state`, images uint8, and actions scaled from the board to [-1, 1].

    Args:
        path: the folder `*.zarr`.
        image_max: the value of white in the file's images: 255, or 1.
    """

    format_name = "Push-T zarr"
    how_to_get = (
        "Download and unpack https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip, which holds "
        "pusht/pusht_cchi_v7_replay.zarr."
    )

    def __init__(self, path: str | os.PathLike[str], image_max: float = 255.0) -> None:
        super().__init__(path)
        self.image_max = image_max

    def close(self) -> None:
        """Forget the file in this process; zarr holds nothing open."""
        self._handle = None

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return [f"episode_{i}" for i in range(len(self.ends()))]

    def ends(self) -> npt.NDArray[np.int64]:
        """The step after the last one of each episode."""
        return np.asarray(self.handle[ENDS][:], np.int64)

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        first, end = self._span(demo)
        return end - first

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        return (self.length(demo), *self.read(demo, key, 0, 1).shape[1:])

    def keys(self, demo: str) -> list[str]:
        """The names of the arrays of a demo, e.g. "obs/state"."""
        return [key for key, name in SOURCES.items() if name in self.handle]

    def env_name(self) -> str:
        """The simulator's task; empty if the file does not say."""
        return "PushT"

    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """See `DemoFile.read`.

        Raises:
            DataError: the bytes cannot be read, or images have another range than was declared.
        """
        begin, end = self._span(demo)
        last = end if stop is None else min(begin + stop, end)
        with clear_errors(self.path):
            values = np.asarray(self.handle[SOURCES[key]][begin + first : last])
        if key == "actions":
            return values / (BOARD / 2.0) - 1.0
        if key == "obs/agent_pos":
            return values[:, :2]
        if key == "obs/img":
            return self._pixels(values, demo)
        return values.reshape(len(values), -1)

    def _span(self, demo: str) -> tuple[int, int]:
        ends, number = self.ends(), int(demo.removeprefix("episode_"))
        return (int(ends[number - 1]) if number else 0), int(ends[number])

    def _pixels(self, values: npt.NDArray[Any], demo: str) -> npt.NDArray[np.uint8]:
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        # No real picture is as dark as 1 of 255.
        if low < 0 or high > self.image_max or (self.image_max > 1.0 and 0.0 < high <= 1.0):
            raise DataError(
                f"{self.path}: expected images from 0 to {self.image_max:g}, found {low:g} to {high:g} in {demo}. "
                f"Set image_max to the value of white in the file{', probably 1' if high <= 1.0 else ''}."
            )
        return np.rint(values * (255.0 / self.image_max)).astype(np.uint8)

    def _open(self) -> Any:
        try:
            import zarr
        except ImportError as error:
            raise DataError("Reading Push-T needs zarr: pip install 'difftori-pl[pusht]'.") from error
        if not self.path.exists():
            raise DataError(f"{self.path}: no such folder. {self.how_to_get}")
        try:
            return zarr.open_group(str(self.path), mode="r")
        except Exception as error:  # zarr 2 and 3 have exceptions of their own for this
            raise DataError(
                f"{self.path}: expected a {self.format_name} folder, but it cannot be opened ({error}). "
                "Unpack the download again, and name the folder that ends with .zarr."
            ) from error


def pusht_faults(file: PushTFile, keys: Sequence[str] = tuple(SOURCES)) -> list[Fault]:
    """Find what is wrong with a file, but for the range of its images, which is checked as they are read.

    Args:
        file: the file.
        keys: the columns that it is wanted for, e.g. "obs/state".

    Raises:
        DataError: it cannot be opened.
    """
    names = list(dict.fromkeys(SOURCES[key] for key in keys))
    if ENDS not in file.handle:
        advice = "Without it the episodes cannot be told apart: download the file again."
        return [Fault("no_episode_ends", file.path.name, f"expected an array {ENDS}, found none", advice)]
    faults = [fault for name in names for fault in _wrong_array(file, name)]
    return faults or [*_wrong_ends(file, names), *(fault for name in names for fault in _wrong_values(file, name))]


def _wrong_array(file: PushTFile, name: str) -> Iterator[Fault]:
    if name not in file.handle:
        found = ", ".join(sorted(file.handle["data"])) if "data" in file.handle else "none"
        problem = f"expected an array {name}, found {found} under data"
        yield Fault("missing_array", file.path.name, problem, "Do not name its key, or use a file that has it.", name)
        return
    array, wanted = file.handle[name], STEP_SHAPES[name]
    fits = len(array.shape) == len(wanted) + 1
    if not fits or any(size not in (None, found) for size, found in zip(wanted, array.shape[1:], strict=True)):
        step = ", ".join("any" if size is None else str(size) for size in wanted)
        problem = f"expected {name} of shape (steps, {step}), found {tuple(array.shape)}"
        yield Fault("shape", file.path.name, problem, "Is it the file of another task?", name)
        return
    # zarr fills a chunk that is not there with zeros, without a word.
    n_missing = array.nchunks - array.nchunks_initialized
    if n_missing:
        problem = f"expected {array.nchunks} chunks of {name}, found {array.nchunks - n_missing}"
        yield Fault("missing_chunks", file.path.name, problem, "The copy is not complete: copy it again.", name)


def _wrong_ends(file: PushTFile, names: Sequence[str]) -> Iterator[Fault]:
    ends = file.ends()
    if len(ends) == 0:
        yield Fault("no_demos", ENDS, "expected at least one episode, found none", "Download the file again.")
        return
    if (np.diff(ends, prepend=0) <= 0).any():
        at = int(np.argmax(np.diff(ends, prepend=0) <= 0))
        problem = f"expected steps that increase, found {ends[at]} after {ends[at - 1] if at else 0}"
        yield Fault("episode_ends", f"{ENDS}, episode {at}", problem, "An episode without steps: remove it.")
    for name in names:
        n_steps = file.handle[name].shape[0]
        if n_steps != ends[-1]:
            problem = f"expected {ends[-1]} steps in {name}, as {ENDS} says, found {n_steps}"
            yield Fault("length", file.path.name, problem, "The file was cut or edited: download it again.", name)


def _wrong_values(file: PushTFile, name: str) -> Iterator[Fault]:
    if name == "data/img":
        return
    values = np.asarray(file.handle[name][:])
    bad = ~np.isfinite(values)
    rule, wanted = "not_finite", "finite numbers"
    if not bad.any() and name == "data/action":
        bad = (values < 0) | (values > BOARD)
        rule, wanted = "action_range", f"positions from 0 to {BOARD:g}"
    if bad.any():
        step, *at = np.argwhere(bad)[0].tolist()
        problem = f"expected {wanted} in {name}, found {values[(step, *at)]:g}"
        yield Fault(rule, f"step {step}", problem, "Remove the episode, or find what wrote it.", name)
