"""The layout that all generations of ManiSkill share: `traj_<i>` groups in HDF5 and a JSON file next to it."""

from __future__ import annotations

import json
import re
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile, natural_order, stored_arrays


class TrajectoryFile(DemoFile):
    """Base class of ManiSkill's trajectories: `traj_<i>/{actions, obs, success, ...}`.

    ManiSkill2 and ManiSkill3 store one more observation than actions. The last observation is ignored.
    """

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
