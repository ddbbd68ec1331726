"""Files of ManiSkill3 trajectories: recognition and checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.faults import Fault, Request
from datamodules.formats.maniskill3_faults import demo_faults, file_faults
from datamodules.formats.maniskill3_reader import ManiSkill3Reader
from datamodules.formats.trajectory_faults import failure


class ManiSkill3File(ManiSkill3Reader):
    """A file of ManiSkill3 trajectories; see `ManiSkill3Reader`. `ManiSkillFile` reads point clouds.

    Args:
        path: the HDF5 file.
    """

    format_name = "a ManiSkill3 HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m mani_skill.utils.download_demo PickCube-v1`, and replay them to "
        "add observations."
    )

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is an HDF5 file with trajectories of ManiSkill3, but not with point clouds."""
        import h5py

        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        file = cls(path)
        try:
            with file.clear_errors():
                return any(_is_third_generation(file.handle[demo]) for demo in file.demos()[:1])
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
        vectors, images = self.required(demos, request)
        return ["actions", *vectors, *images]

    def usable(self, request: Request) -> list[str]:
        """Return the names of the demos that the request does not drop."""
        if not request.drop_failed:
            return self.demos()
        return [demo for demo in self.demos() if failure(self, demo) is None]


def _is_third_generation(group: Any) -> bool:
    """Return whether ManiSkill3 wrote a trajectory: earlier generations store the simulator's states as one array."""
    obs, states = group.get("obs", {}), group.get("env_states")
    nested = set(obs) if hasattr(obs, "keys") else set()
    if "pointcloud" in nested:
        return False
    return hasattr(states, "keys") or "sensor_data" in nested or (states is None and "agent" in nested)
