"""Files of ManiSkill trajectories: recognition, checks and the description of their contents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from datamodules.formats.faults import Fault, Request
from datamodules.formats.maniskill_faults import demo_faults, file_faults
from datamodules.formats.maniskill_reader import ManiSkillReader


class ManiSkillFile(ManiSkillReader):
    """A file of ManiSkill trajectories; see `ManiSkillReader` for its arguments."""

    format_name = "a ManiSkill HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m mani_skill2.utils.download_demo PickCube-v0`, or make your own: "
        "`difftori demos maniskill --task PickCube-v0`."
    )

    def file_faults(self, request: Request) -> Iterator[Fault]:
        """See `DemoFile.file_faults`."""
        return file_faults(self, request)

    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """See `DemoFile.demo_faults`."""
        return demo_faults(self, demos, request)

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        return ["actions", *(f"obs/{key}" for key in self.obs_keys())]

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
