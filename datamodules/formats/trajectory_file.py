"""The layout that all generations of ManiSkill share: `traj_<i>` groups in HDF5 and a JSON file next to it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile, natural_order, stored_arrays
from datamodules.formats.faults import Fault, Request

_LEAVE_OUT = "Leave such trajectories out (drop_failed: true), or record them again."


class TrajectoryFile(DemoFile):
    """Base class of ManiSkill's trajectories: `traj_<i>/{actions, obs, success, ...}`.

    ManiSkill2 and ManiSkill3 store one more observation than actions. The last observation is ignored.
    """

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is an HDF5 file with trajectories of this generation."""
        import h5py

        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        file = cls(path)
        try:
            with file.clear_errors():
                return any(cls._is_of_this_generation(file.handle[demo]) for demo in file.demos()[:1])
        except DataError:
            return False
        finally:
            file.close()

    @classmethod
    def _is_of_this_generation(cls, group: Any) -> bool:
        """Return whether this class reads a trajectory."""
        return True

    def usable(self, request: Request) -> list[str]:
        """Return the names of the demos that the request does not drop."""
        if not request.drop_failed:
            return self.demos()
        return [demo for demo in self.demos() if self.failure(demo) is None]

    def failure(self, demo: str) -> Fault | None:
        """Return a fault if a trajectory is empty or failed."""
        if self.length(demo) == 0:
            return Fault("empty_demo", demo, "expected at least one step, found none", _LEAVE_OUT)
        if not self.succeeded(demo):
            return Fault("failed_demo", demo, "expected success at the end, found a failure", _LEAVE_OUT)
        return None

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        found = (
            name for name, item in self.handle.items() if re.fullmatch(r"traj_\d+", name) and hasattr(item, "keys")
        )
        return sorted(found, key=natural_order)

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return int(self.handle[f"{demo}/actions"].shape[0])

    def keys(self, demo: str) -> list[str]:
        """Return the paths of the stored arrays of a demo."""
        return list(stored_arrays(self.handle[demo]))

    def env_name(self) -> str:
        """Return ManiSkill's name of the task; empty if the file does not contain one."""
        return str(self.meta().get("env_info", {}).get("env_id") or "")

    def succeeded(self, demo: str) -> bool:
        """Return whether the task was solved at the last step."""
        outcome = self.handle[f"{demo}/success"]
        return len(outcome) > 0 and bool(outcome[-1])

    def meta(self) -> dict[str, Any]:
        """Read `env_info` and `episodes` from the JSON file.

        Raises:
            DataError: the JSON file is missing or damaged.
        """
        path = self.path.with_suffix(".json")
        if not path.exists():
            raise DataError(
                f"{path}: no such file. ManiSkill writes it next to {self.path.name}; it contains the task and the "
                "controller of the trajectories: copy it too."
            )
        try:
            meta = json.loads(path.read_text())
            info: dict[str, Any] = {"env_kwargs": {}} | dict(meta["env_info"])
            episodes = [dict(episode) | {"episode_id": int(episode["episode_id"])} for episode in meta["episodes"]]
            return {"env_info": info | {"env_kwargs": dict(info["env_kwargs"])}, "episodes": episodes}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected JSON with env_info and episodes ({error!r}). Copy it again.") from error
