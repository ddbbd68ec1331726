"""Files of ManiSkill trajectories: recognition, checks and the description of their contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.faults import Fault, Request
from datamodules.formats.maniskill_faults import demo_faults, file_faults
from datamodules.formats.maniskill_reader import ManiSkillReader
from datamodules.formats.trajectory_faults import failure


class ManiSkillFile(ManiSkillReader):
    """A file of ManiSkill trajectories; see `ManiSkillReader` for its arguments."""

    format_name = "a ManiSkill HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m mani_skill2.utils.download_demo PickCube-v0`, or make your own: "
        "`difftori demos maniskill --task PickCube-v0`."
    )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is an HDF5 file with trajectories."""
        import h5py

        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        file = cls(path)
        try:
            with file.clear_errors():
                return bool(file.demos())
        except DataError:
            return False
        finally:
            file.close()

    def file_faults(self, request: Request) -> Iterator[Fault]:
        """See `DemoFile.file_faults`."""
        return file_faults(self, request)

    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """See `DemoFile.demo_faults`."""
        return demo_faults(self, demos, request)

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        return ["actions", *(f"obs/{key}" for key in self.obs_keys())]

    def usable(self, request: Request) -> list[str]:
        """Return the names of the demos that the request does not drop."""
        if not request.drop_failed:
            return self.demos()
        return [demo for demo in self.demos() if failure(self, demo) is None]

    def interface(self) -> dict[str, Any]:
        """Return the task, controller, cameras and cloud settings, which a policy compares with its own."""
        env = self.meta().get("env_info", {})
        kwargs = env.get("env_kwargs", {})
        known = {"control_mode": kwargs.get("control_mode"), "cameras": env.get("cameras")}
        if self.has_clouds:
            known |= {
                "observation": "point_cloud",
                **asdict(self.stored_recipe() if self.is_converted else self.recipe),
            }
        else:
            known |= {"observation": "state"}
        return {"env_id": env.get("env_id")} | {name: value for name, value in known.items() if value is not None}
