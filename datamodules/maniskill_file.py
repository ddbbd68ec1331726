"""Reading ManiSkill's trajectories: `traj_<i>/{actions, obs, success, ...}`, with a JSON file beside the HDF5 file."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.demo_file import DemoFile, natural_order
from datamodules.errors import DataError
from datamodules.point_cloud import PointCloudRecipe

CONVERTED = "difftori_point_cloud"
"""The attribute in which a converted file says, in JSON, what it was made of and how."""


class ManiSkillFile(DemoFile):
    """Trajectories of ManiSkill2, of ManiSkill1, or point clouds that `difftori data convert` made of either.

    ManiSkill2 stores an observation more than actions: what the last action led to. It is not read.

    Args:
        path: the HDF5 file.
        recipe: makes the observations `point_cloud` and `robot_state` of raw clouds, while they are read.
    """

    format_name = "ManiSkill"
    how_to_get = (
        "Get official demonstrations with `python -m mani_skill2.utils.download_demo PickCube-v0`, or make your own: "
        "`difftori demos maniskill --task PickCube-v0`."
    )

    def __init__(self, path: str | os.PathLike[str], recipe: PointCloudRecipe | None = None) -> None:
        super().__init__(path)
        self.recipe = recipe or PointCloudRecipe()
        self._episodes: dict[int, dict[str, Any]] | None = None

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return sorted((name for name in self.handle if name.startswith("traj_")), key=natural_order)

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return int(self.handle[f"{demo}/actions"].shape[0])

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        stored = self.handle[demo].get(key)
        if hasattr(stored, "shape"):
            return tuple(stored.shape)
        return self.length(demo), *self.read(demo, key, 0, 1).shape[1:]

    def keys(self, demo: str) -> list[str]:
        """The arrays of a demo, as they are stored."""
        names: list[str] = []
        self.handle[demo].visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        return names

    def env_name(self) -> str:
        """ManiSkill's name of the task; empty if the file does not say."""
        return str(self.meta().get("env_info", {}).get("env_id") or "")

    def read(self, demo: str, key: str, first: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Read "actions", "success", "obs/state", "obs/point_cloud" or "obs/robot_state"; see `DemoFile.read`.

        Clouds are int16 in units of the recipe's scale.
        """
        stop = self.length(demo) if stop is None else min(stop, self.length(demo))
        if self.is_converted or not key.startswith("obs/"):
            return self._read(f"{demo}/{key}", first, stop)
        if key == "obs/state":
            return self._read(f"{demo}/obs" if self.has_states else f"{demo}/obs/state", first, stop)
        return np.stack([obs[key.removeprefix("obs/")] for obs in self.observations(demo, first, stop)])

    def observations(self, demo: str, first: int, stop: int) -> list[dict[str, npt.NDArray[Any]]]:
        """Observe the raw clouds of steps `first` to `stop` (excluded) by the recipe.

        Raises:
            DataError: there are no clouds, or one cannot be used; the message names the step.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        group = self.handle[f"{demo}/obs"]
        group.visititems(lambda name, item: arrays.update({name: item[first:stop]}) if hasattr(item, "shape") else None)
        seed = self.episode(demo)["episode_seed"]
        observed = []
        for step in range(stop - first):
            try:
                raw = {name: values[step] for name, values in arrays.items()}
                observed.append(self.recipe.observe(raw, (seed, first + step)))
            except DataError as error:
                raise DataError(f"{self.path}: {demo}, step {first + step}: {error}") from error
        return observed

    @property
    def _first_obs(self) -> Any:
        """The observations of the first demo: an array, a group, or nothing."""
        demos = self.demos()
        return self.handle[demos[0]].get("obs", ()) if demos else ()

    @property
    def is_converted(self) -> bool:
        """Whether the clouds are ready to use."""
        return CONVERTED in self.handle.attrs

    @property
    def has_states(self) -> bool:
        """Whether observations are ManiSkill2's state vectors."""
        return hasattr(self._first_obs, "shape")

    @property
    def has_clouds(self) -> bool:
        """Whether there are point clouds, raw or converted."""
        return self.is_converted or (not self.has_states and "pointcloud" in self._first_obs)

    @property
    def is_first_generation(self) -> bool:
        """Whether this is a file of ManiSkill1, which has no JSON file and calls success `dones`."""
        demos = self.demos()
        return bool(demos) and "dones" in self.handle[demos[0]] and "success" not in self.handle[demos[0]]

    def succeeded(self, demo: str) -> bool:
        """Whether the task was solved at the end."""
        outcome = self.handle[f"{demo}/{'dones' if self.is_first_generation else 'success'}"]
        return len(outcome) > 0 and bool(outcome[-1])

    def meta(self) -> dict[str, Any]:
        """The JSON file: `env_info` and `episodes`; empty for ManiSkill1.

        Raises:
            DataError: it is missing or damaged.
        """
        if self.is_converted:
            return json.loads(self.handle.attrs[CONVERTED])["meta"]
        path = self.path.with_suffix(".json")
        if not path.exists():
            if self.is_first_generation:
                return {}
            raise DataError(
                f"{path}: no such file. ManiSkill2 writes it beside {self.path.name}, to say which task and controller "
                "the trajectories are of: copy it too."
            )
        try:
            meta = json.loads(path.read_text())
            return {"env_info": dict(meta["env_info"]), "episodes": list(meta["episodes"])}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected JSON with env_info and episodes ({error!r}). Copy it again.") from error

    def episode(self, demo: str) -> dict[str, Any]:
        """What the JSON file says of a trajectory; of ManiSkill1's, their number stands for the seed."""
        number = int(natural_order(demo)[1])
        if self._episodes is None:
            self._episodes = {episode["episode_id"]: episode for episode in self.meta().get("episodes", [])}
        return {"episode_seed": number} | self._episodes.get(number, {})

    def stored_recipe(self) -> PointCloudRecipe:
        """By what recipe a converted file was made."""
        return PointCloudRecipe(**json.loads(self.handle.attrs[CONVERTED])["recipe"])

    def interface(self) -> dict[str, Any]:
        """What observations and actions mean, for a policy to compare: task, controller, cameras, cloud."""
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
