"""Read-only reader of Push-T demonstrations: the zarr 2 file of Diffusion Policy (arXiv:2303.04137)."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile, describe
from datamodules.formats.faults import Fault, Request
from datamodules.formats.pusht_faults import BOARD, demo_faults, episode_ends, file_faults

SOURCES = {
    "actions": "data/action",
    "obs/state": "data/state",
    "obs/agent_pos": "data/state",
    "obs/keypoint": "data/keypoint",
    "obs/img": "data/img",
}
"""The stored array of each column."""

LOW_DIM_KEYS = ("state", "agent_pos", "keypoint")
"""The low-dim observation keys that every file has; images may be missing."""


class PushTFile(DemoFile):
    """The public Push-T file: one array per quantity over all episodes, split by `meta/episode_ends`.

    The columns match `difftori_pl.envs.PushT`: positions in pixels of the board, flattened keypoints, `agent_pos` as
    the first two numbers of `state`, uint8 images, and actions scaled from the board to [-1, 1].

    Args:
        path: the folder `*.zarr`, or the same folder as a `*.zarr.zip` file.
        image_max: the value of white in the file's images, 255 or 1.
    """

    format_name = "a Push-T zarr folder"
    kind = "folder"
    readers = ("zarr", "numcodecs", "zipfile", "json")
    how_to_get = (
        "Download and unpack https://diffusion-policy.cs.columbia.edu/data/training/pusht.zip, which holds "
        "pusht/pusht_cchi_v7_replay.zarr."
    )

    def __init__(self, path: str | os.PathLike[str], image_max: float = 255.0) -> None:
        super().__init__(path)
        self.image_max = image_max

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is a zarr folder or a zip file."""
        return path.suffix == ".zip" or any((path / name).exists() for name in (".zgroup", "zarr.json"))

    def file_faults(self, request: Request) -> list[Fault]:
        """See `DemoFile.file_faults`."""
        return file_faults(self.handle, self.path.name, self._arrays(request))

    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """See `DemoFile.demo_faults`."""
        return demo_faults(self.handle, {demo: self.span(demo) for demo in demos}, self._arrays(request))

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        low_dim = LOW_DIM_KEYS if request.obs_keys is None else request.obs_keys
        images = request.image_keys
        if images is None:
            images = ["img"] if SOURCES["obs/img"] in self.handle else []
        return ["actions", *(f"obs/{key}" for key in (*low_dim, *images))]

    def _arrays(self, request: Request) -> list[str]:
        return list(dict.fromkeys(SOURCES[name] for name in self.columns((), request)))

    def close(self) -> None:
        """Close the file in this process; the next read opens it again."""
        if self._handle is not None:
            self._handle.store.close()
            self._handle = None

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return [f"episode_{i}" for i in range(len(episode_ends(self.handle)))]

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        first, end = self.span(demo)
        return end - first

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        return (self.length(demo), *self.read(demo, key, 0, 1).shape[1:])

    def keys(self, demo: str) -> list[str]:
        """Return the names of the columns of a demo, e.g. "obs/state"."""
        return [key for key, name in SOURCES.items() if name in self.handle]

    def env_name(self) -> str:
        """Return the simulator's name of the task."""
        return "PushT"

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        begin, _ = self.span(demo)
        values = np.asarray(self.handle[SOURCES[key]][begin + first : begin + stop])
        if key == "actions":
            return values / (BOARD / 2.0) - 1.0
        if key == "obs/agent_pos":
            return values[:, :2]
        if key == "obs/img":
            return self._pixels(values, demo)
        return values.reshape(len(values), -1)

    def span(self, demo: str) -> tuple[int, int]:
        """Return the first step of an episode in the arrays and the step after its last one."""
        ends, number = episode_ends(self.handle), int(demo.removeprefix("episode_"))
        return (int(ends[number - 1]) if number else 0), int(ends[number])

    def _pixels(self, values: npt.NDArray[Any], demo: str) -> npt.NDArray[np.uint8]:
        low, high = float(values.min(initial=0)), float(values.max(initial=0))
        # No real image has a maximum of 1 out of 255.
        if low < 0 or high > self.image_max or (self.image_max > 1.0 and 0.0 < high <= 1.0):
            raise DataError(
                f"{self.path}: {demo}: expected images from 0 to {self.image_max:g}, found {low:g} to {high:g} in "
                f"data/img. Set image_max to the value of white in the file{', probably 1' if high <= 1.0 else ''}."
            )
        return np.rint(values * (255.0 / self.image_max)).astype(np.uint8)

    def _open(self) -> Any:
        try:
            import zarr
        except ImportError as error:
            raise DataError("Reading Push-T needs zarr: pip install 'difftori-pl[pusht]'.") from error
        self._require(self.path.is_dir() or self.path.suffix == ".zip")
        if zarr.__version__ < "3" and (self.path / "zarr.json").exists():
            raise DataError(
                f"{self.path}: zarr {zarr.__version__} reads format 2, but this folder has format 3. Install zarr 3, "
                "or write the folder again with zarr_format=2."
            )
        if not self.recognises(self.path):
            found = describe(self.path)
            raise DataError(f"{self.path}: expected {self.format_name}, got {found}")
        try:
            # zarr 3 finds no group in a zip file that is given as a path.
            is_zip = self.path.suffix == ".zip"
            return zarr.open_group(
                zarr.storage.ZipStore(str(self.path), mode="r") if is_zip else str(self.path), mode="r"
            )
        except PermissionError:
            raise
        except Exception as error:  # zarr 2 and 3 raise different exceptions here
            raise DataError(
                f"{self.path}: expected {self.format_name}, but it cannot be opened ({error}). "
                "Unpack the download again, and give the path of the folder that ends with .zarr."
            ) from error
