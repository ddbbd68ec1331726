"""Reader of robomimic HDF5 files: `data/<demo>/{actions, obs/<key>, ...}` and `mask/<filter>`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from datamodules.actions.robosuite_control import control_delta
from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile, is_one_number, natural_order, stored_arrays
from datamodules.formats.faults import Fault, Request
from datamodules.formats.robomimic_faults import demo_faults, file_faults
from datamodules.formats.robomimic_request import required_arrays


class RobomimicFile(DemoFile):
    """A robomimic HDF5 file; see `DemoFile`."""

    format_name = "a robomimic HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m robomimic.scripts.download_datasets "
        "--tasks square --dataset_types ph --hdf5_types low_dim --download_dir datasets`, or make your own: "
        "`difftori demos square --episodes 200` writes demos/square.hdf5, and `difftori data render FILE` adds images "
        "to such a file."
    )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is an HDF5 file, or a missing one by its name."""
        import h5py

        return bool(h5py.is_hdf5(path)) if path.is_file() else path.suffix == ".hdf5" and not path.exists()

    def file_faults(self, request: Request) -> Iterator[Fault]:
        """See `DemoFile.file_faults`."""
        return file_faults(self, request)

    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """See `DemoFile.demo_faults`."""
        if request.unscaled_actions is None:
            absolute = control_delta(self.env_meta().get("env_kwargs") or {}) is False
            request = replace(request, unscaled_actions=not absolute)
        return demo_faults(self, demos, request)

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        required = required_arrays(self, demos, request)
        return [*required.vectors, *required.images]

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return sorted(_groups(self.handle.get("data")), key=natural_order)

    def filters(self) -> list[str]:
        """Return the filter keys under `mask/`."""
        mask = self.handle.get("mask")
        return sorted(mask) if hasattr(mask, "keys") else []

    def filtered(self, name: str) -> list[str]:
        """See `DemoFile.filtered`."""
        if name not in self.filters():
            return super().filtered(name)
        return sorted(self.handle["mask"][name].asstr()[()], key=natural_order)

    def env_meta(self) -> dict[str, Any]:
        """Return robomimic's env_args: the simulator's type, the task's name and its arguments; empty if absent.

        Raises:
            DataError: the attribute is not a JSON object.
        """
        data = self.handle.get("data")
        text = "{}" if data is None else data.attrs.get("env_args", "{}")
        try:
            meta = json.loads(text) if isinstance(text, (str, bytes)) else None
        except ValueError:
            meta = None
        if not isinstance(meta, dict):
            raise DataError(
                f"{self.path}: expected a JSON object in the attribute env_args of `data`. Correct or remove it."
            )
        return meta

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return int(self.handle[f"data/{demo}/actions"].shape[0])

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        shape = tuple(self.handle[f"data/{demo}/{key}"].shape)
        return (*shape, 1) if is_one_number(key, len(shape)) else shape

    def keys(self, demo: str) -> list[str]:
        """See `DemoFile.keys`."""
        return list(self.arrays(demo))

    def arrays(self, demo: str) -> dict[str, Any]:
        """Return the arrays of a demo, without reading them, by their paths in its group, e.g. "obs/object"."""
        return stored_arrays(self.handle["data"][demo])

    def env_name(self) -> str:
        """Return the simulator's name of the task; empty if the file does not contain one."""
        return str(self.env_meta().get("env_name", ""))

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        values = self.handle["data"][demo][key][first:stop]
        return values[:, None] if is_one_number(key, values.ndim) else values


def _groups(parent: Any) -> list[str]:
    """Return the names of the groups in `parent`, or an empty list if it is not a group."""
    return [name for name, item in parent.items() if hasattr(item, "keys")] if hasattr(parent, "keys") else []
