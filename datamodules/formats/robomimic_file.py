"""Reader of robomimic HDF5 files: `data/<demo>/{actions, obs/<key>, ...}` and `mask/<filter>`."""

from __future__ import annotations

import json
import os
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
    """A robomimic HDF5 file; see `DemoFile`.

    Args:
        path: path of the file.
        action_key: name of the array that is read as "actions".
        control_delta: whether these actions are displacements; None for what `env_args` says.
    """

    format_name = "a robomimic HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m robomimic.scripts.download_datasets "
        "--tasks square --dataset_types ph --hdf5_types low_dim --download_dir datasets`, or make your own: "
        "`difftori demos square --episodes 200` writes demos/square.hdf5, and `difftori data render FILE` adds images "
        "to such a file."
    )

    def __init__(
        self, path: str | os.PathLike[str], action_key: str = "actions", control_delta: bool | None = None
    ) -> None:
        super().__init__(path)
        self.action_key = action_key
        self._control_delta = control_delta

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
        delta, stated = self.control_delta(), self._control_delta is not None
        if request.unscaled_actions is None or (delta and not stated):
            # Files of absolute poses often keep the controller's settings of the displacements that they replace.
            request = replace(request, unscaled_actions=delta is not False)
        return demo_faults(self, {demo: self.arrays(demo) for demo in demos}, request, self.action_key)

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        required = required_arrays(map(self.arrays, demos), request)
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

    def control_delta(self) -> bool | None:
        """Return whether actions are displacements (True) or absolute poses (False); None if it is unknown.

        Raises:
            DataError: `env_args` is not a JSON object.
        """
        if self._control_delta is not None:
            return self._control_delta
        return control_delta(self.env_meta().get("env_kwargs") or {})

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return int(self.handle[f"data/{demo}/{self.action_key}"].shape[0])

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        shape = tuple(self.handle[f"data/{demo}/{self._stored(key)}"].shape)
        return (*shape, 1) if is_one_number(key, len(shape)) else shape

    def keys(self, demo: str) -> list[str]:
        """See `DemoFile.keys`."""
        return list(self.arrays(demo))

    def arrays(self, demo: str) -> dict[str, Any]:
        """Return the arrays of a demo, without reading them, by their paths in its group, e.g. "obs/object"."""
        stored = stored_arrays(self.handle["data"][demo])
        if self.action_key != "actions":
            stored.pop("actions", None)
        return {"actions" if name == self.action_key else name: array for name, array in stored.items()}

    def env_name(self) -> str:
        """Return the simulator's name of the task; empty if the file does not contain one."""
        return str(self.env_meta().get("env_name", ""))

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        values = self.handle["data"][demo][self._stored(key)][first:stop]
        return values[:, None] if is_one_number(key, values.ndim) else values

    def _stored(self, key: str) -> str:
        return self.action_key if key == "actions" else key


def _groups(parent: Any) -> list[str]:
    """Return the names of the groups in `parent`, or an empty list if it is not a group."""
    return [name for name, item in parent.items() if hasattr(item, "keys")] if hasattr(parent, "keys") else []
