"""Reading ManiSkill's trajectories: `traj_<i>/{actions, obs, success, ...}`, with a JSON file beside the HDF5 file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.formats.damage import clear_errors
from datamodules.formats.demo_file import DemoFile, natural_order
from datamodules.formats.faults import Fault, Request
from datamodules.formats.maniskill_faults import demo_faults, failure, file_faults
from datamodules.point_cloud import FRAMES, PointCloudRecipe

CONVERTED = "difftori_point_cloud"
"""The attribute in which a converted file says, in JSON, what it was made of and how."""


class ManiSkillFile(DemoFile):
    """Trajectories of ManiSkill2, of ManiSkill1, or point clouds that `difftori data convert` made of either.

    ManiSkill2 stores an observation more than actions: what the last action led to. It is ignored.

    Args:
        path: the HDF5 file.
        recipe: makes the observations `point_cloud` and `robot_state` of raw clouds, while they are read; None for
            that of a converted file, or the default one.
    """

    format_name = "a ManiSkill HDF5 file"
    how_to_get = (
        "Get official demonstrations with `python -m mani_skill2.utils.download_demo PickCube-v0`, or make your own: "
        "`difftori demos maniskill --task PickCube-v0`."
    )

    def __init__(self, path: str | os.PathLike[str], recipe: PointCloudRecipe | None = None) -> None:
        super().__init__(path)
        self._recipe = recipe
        self._episodes: dict[int, dict[str, Any]] | None = None

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Whether this is an HDF5 file with trajectories."""
        import h5py

        if not path.is_file() or not h5py.is_hdf5(path):
            return False
        file = cls(path)
        try:
            with clear_errors(path):
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
        """The names of the demos that a request does not leave out."""
        if not request.drop_failed:
            return self.demos()
        return [demo for demo in self.demos() if failure(self, demo) is None]

    @property
    def recipe(self) -> PointCloudRecipe:
        """How clouds become observations."""
        if self._recipe is None:
            self._recipe = self.stored_recipe() if self.is_converted else PointCloudRecipe()
        return self._recipe

    def obs_keys(self) -> list[str]:
        """The observations that the file delivers."""
        if not self.has_clouds:
            return ["state"]
        return ["point_cloud", "robot_state"] if self.recipe.robot_state else ["point_cloud"]

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        found = (
            name for name, item in self.handle.items() if re.fullmatch(r"traj_\d+", name) and hasattr(item, "keys")
        )
        return sorted(found, key=natural_order)

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

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Read "actions", "success", "obs/state", "obs/point_cloud" or "obs/robot_state".

        Clouds are int16 in units of the recipe's scale.
        """
        if self.is_converted or not key.startswith("obs/"):
            return self.handle[demo][key][first:stop]
        if key == "obs/state":
            return self.state(demo)[first:stop]
        return np.stack([obs[key.removeprefix("obs/")] for obs in self.observations(demo, first, stop)])

    def stored(self, demo: str, name: str) -> npt.NDArray[Any]:
        """Read all steps with an action of an array by its path in the file.

        Raises:
            DataError: the bytes cannot be read.
        """
        with clear_errors(f"{self.path}: {demo}: {name}"):
            return self.handle[demo][name][: self.length(demo)]

    def state(self, demo: str) -> Any:
        """The array of state vectors of a demo, unread; None if there is none."""
        obs = self.handle[demo].get("obs", {})
        found = obs if hasattr(obs, "shape") else obs.get("state")
        return found if hasattr(found, "shape") else None

    def vectors(self, demo: str) -> list[str]:
        """The paths of the arrays, but for points, that the observations are made of."""
        if not self.has_clouds:
            return [self.state(demo).name.removeprefix(f"/{demo}/")]
        if self.is_converted:
            return ["obs/robot_state"] if self.recipe.robot_state else []
        used = (
            ("obs/agent/", "obs/extra/", "obs/state")
            if self.recipe.robot_state
            else (f"obs/{FRAMES[self.recipe.frame]}",)
        )
        return [name for name in self.keys(demo) if name.startswith(used)]

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
        """Whether observations are state vectors alone."""
        return hasattr(self._first_obs, "shape") or (not self.has_clouds and "state" in self._first_obs)

    @property
    def has_clouds(self) -> bool:
        """Whether there are point clouds, raw or converted."""
        return self.is_converted or (hasattr(self._first_obs, "keys") and "pointcloud" in self._first_obs)

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
            return self._conversion()["meta"]
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
            info: dict[str, Any] = {"env_kwargs": {}} | dict(meta["env_info"])
            episodes = [dict(episode) | {"episode_id": int(episode["episode_id"])} for episode in meta["episodes"]]
            return {"env_info": info | {"env_kwargs": dict(info["env_kwargs"])}, "episodes": episodes}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: expected JSON with env_info and episodes ({error!r}). Copy it again.") from error

    def _conversion(self) -> dict[str, Any]:
        """What `difftori data convert` wrote of itself: `recipe` and `meta`.

        Raises:
            DataError: it is damaged, or of another version.
        """
        try:
            found = json.loads(self.handle.attrs[CONVERTED])
            return {"recipe": PointCloudRecipe(**found["recipe"]), "meta": dict(found["meta"])}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{self.path}: expected the settings of a conversion in the attribute {CONVERTED} ({error!r}). Convert "
                "the raw file again."
            ) from error

    def episode(self, demo: str) -> dict[str, Any]:
        """What the JSON file says of a trajectory; of ManiSkill1's, their number stands for the seed."""
        number = int(natural_order(demo)[1])
        if self._episodes is None:
            self._episodes = {episode["episode_id"]: episode for episode in self.meta().get("episodes", [])}
        return {"episode_seed": number} | self._episodes.get(number, {})

    def stored_recipe(self) -> PointCloudRecipe:
        """By what recipe a converted file was made."""
        recipe: PointCloudRecipe = self._conversion()["recipe"]
        return recipe

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
