"""Files of ManiSkill3 trajectories: recognition and checks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datamodules.formats.faults import Fault, Request
from datamodules.formats.maniskill3_faults import demo_faults, file_faults
from datamodules.formats.maniskill3_reader import ManiSkill3Reader


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

    @classmethod
    def _is_of_this_generation(cls, group: Any) -> bool:
        # Earlier generations store the simulator's states as one array. `ManiSkillFile` reads point clouds.
        obs, states = group.get("obs", {}), group.get("env_states")
        nested = set(obs) if hasattr(obs, "keys") else set()
        if "pointcloud" in nested:
            return False
        return hasattr(states, "keys") or "sensor_data" in nested or (states is None and "agent" in nested)
