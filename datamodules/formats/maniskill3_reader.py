"""Reader of ManiSkill3's trajectories, whose observations are nested arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.formats.demo_file import is_one_number, stored_arrays
from datamodules.formats.faults import Request, is_numeric
from datamodules.formats.trajectory_file import TrajectoryFile

_CAMERA_MATRICES = "obs/sensor_param/"


class ManiSkill3Reader(TrajectoryFile):
    """A file of `mani_skill.utils.wrappers.RecordEpisode` with the observation mode `state`, `state_dict` or `rgb`.

    The columns are "actions" and "obs/<key>", where a key is the path below `obs`: `agent/qpos`, `extra/tcp_pose`,
    `sensor_data/base_camera/rgb`. The flat vectors of the mode `state` are "obs/state". Booleans are read as 0 and 1.
    """

    def required(self, demos: Sequence[str], request: Request) -> tuple[list[str], list[str]]:
        """Return the names of the vectors and of the images that a request needs, e.g. "obs/agent/qpos".

        Requested keys that are None stand for every numeric vector or RGB image that any demo has.
        """
        stored: dict[str, Any] = {}
        for demo in demos:
            stored = self.observations(demo) | stored
        vectors = [name for name, array in stored.items() if is_numeric(array) and array.ndim in (1, 2)]
        images = [name for name, array in stored.items() if array.dtype == np.uint8 and array.ndim == 4]
        if request.obs_keys is not None:
            vectors = [f"obs/{key}" for key in request.obs_keys]
        if request.image_keys is not None:
            images = [f"obs/{key}" for key in request.image_keys]
        return vectors, images

    def observations(self, demo: str) -> dict[str, Any]:
        """Return the arrays of observations of a demo, without reading them, by name; camera matrices are left out."""
        obs = self.handle[demo].get("obs", {})
        if hasattr(obs, "shape"):
            return {"obs/state": obs}
        arrays = {f"obs/{name}": array for name, array in stored_arrays(obs).items()}
        return {name: array for name, array in arrays.items() if not name.startswith(_CAMERA_MATRICES)}

    def keys(self, demo: str) -> list[str]:
        """Return "actions" and the names of the observations of a demo."""
        return ["actions", *self.observations(demo)]

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        shape = tuple(self._array(demo, key).shape)
        return (*shape, 1) if is_one_number(key, len(shape)) else shape

    def succeeded(self, demo: str) -> bool:
        """Return whether the task was solved at the last step; True for a task that does not define success."""
        return "success" not in self.handle[demo] or super().succeeded(demo)

    def interface(self) -> dict[str, Any]:
        """Return the task and the controller, which a policy compares with its own."""
        env = self.meta()["env_info"]
        known = {"env_id": env.get("env_id"), "control_mode": env["env_kwargs"].get("control_mode")}
        return {name: value for name, value in known.items() if value is not None}

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        values = self._array(demo, key)[first:stop]
        return values[:, None] if is_one_number(key, values.ndim) else values

    def _array(self, demo: str, key: str) -> Any:
        group = self.handle[demo]
        is_flat = key == "obs/state" and hasattr(group["obs"], "shape")
        return group["obs" if is_flat else key]
