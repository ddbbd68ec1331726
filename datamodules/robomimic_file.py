"""Reading robomimic HDF5 files: `data/<demo>/{actions, obs/<key>, ...}` and `mask/<filter>`."""

from __future__ import annotations

import json
from typing import Any

import numpy.typing as npt

from datamodules.demo_file import DemoFile, natural_order
from datamodules.errors import DataError


class RobomimicFile(DemoFile):
    """A robomimic HDF5 file; see `DemoFile`."""

    format_name = "robomimic"
    how_to_get = (
        "Get official demonstrations with `python -m robomimic.scripts.download_datasets "
        "--tasks square --dataset_types ph --hdf5_types low_dim --download_dir datasets`, or make your own: "
        "`difftori demos square --episodes 200` writes demos/square.hdf5, and `difftori data render FILE` adds images "
        "to such a file."
    )

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return sorted(self.handle["data"], key=natural_order)

    def filters(self) -> list[str]:
        """The filter keys under `mask/`."""
        return sorted(self.handle["mask"]) if "mask" in self.handle else []

    def filtered(self, name: str) -> list[str]:
        """See `DemoFile.filtered`."""
        if name not in self.filters():
            return super().filtered(name)
        return sorted(self.handle["mask"][name].asstr()[()], key=natural_order)

    def env_meta(self) -> dict[str, Any]:
        """What robomimic calls env_args: the simulator, its name and its arguments; empty if absent.

        Raises:
            DataError: it is no JSON object.
        """
        text = self.handle["data"].attrs.get("env_args", "{}")
        try:
            meta = json.loads(text)
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise DataError(
                f"{self.path}: the attribute env_args of `data` is no JSON object. Write it again or drop it."
            )
        return meta

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return int(self.handle[f"data/{demo}/actions"].shape[0])

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        return tuple(self.handle[f"data/{demo}/{key}"].shape)

    def keys(self, demo: str) -> list[str]:
        """The names of the arrays of a demo, e.g. "obs/state"."""
        names: list[str] = []
        self.handle[f"data/{demo}"].visititems(
            lambda name, item: names.append(name) if hasattr(item, "shape") else None
        )
        return names

    def env_name(self) -> str:
        """The simulator's task; empty if the file does not say."""
        return str(self.env_meta().get("env_name", ""))

    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """See `DemoFile.read`."""
        return self._read(f"data/{demo}/{key}", first, stop)
