"""Reader of ManiSkill's trajectories: `traj_<i>/{actions, obs, success, ...}` in HDF5 and a JSON file next to it."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.formats.demo_file import natural_order, stored_arrays
from datamodules.formats.trajectory_file import TrajectoryFile
from datamodules.point_cloud import FRAMES, PointCloudRecipe

CONVERTED = "difftori_point_cloud"
"""The attribute of a converted file that holds its source's metadata and its recipe, as JSON."""


class ManiSkillReader(TrajectoryFile):
    """Trajectories of ManiSkill1 or ManiSkill2, raw or with point clouds converted by `difftori data convert`.

    Args:
        path: the HDF5 file.
        recipe: turns raw clouds into the observations `point_cloud` and `robot_state` while they are read; None uses
            the recipe of a converted file, or the default recipe for a raw file.
    """

    def __init__(self, path: str | os.PathLike[str], recipe: PointCloudRecipe | None = None) -> None:
        super().__init__(path)
        self._recipe = recipe
        self._episodes: dict[int, dict[str, Any]] | None = None

    @property
    def recipe(self) -> PointCloudRecipe:
        """The recipe that turns clouds into observations."""
        if self._recipe is None:
            self._recipe = self.stored_recipe() if self.is_converted else PointCloudRecipe()
        return self._recipe

    def obs_keys(self) -> list[str]:
        """Return the observation keys that the file provides."""
        if not self.has_clouds:
            return ["state"]
        return ["point_cloud", "robot_state"] if self.recipe.robot_state else ["point_cloud"]

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        stored = self.handle[demo].get(key)
        if hasattr(stored, "shape"):
            return tuple(stored.shape)
        return self.length(demo), *self.read(demo, key, 0, 1).shape[1:]

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        """Read "actions", "success", "obs/state", "obs/point_cloud" or "obs/robot_state".

        Clouds are int16 in units of `recipe.scale`.
        """
        if self.is_converted or not key.startswith("obs/"):
            return self.handle[demo][key][first:stop]
        if key == "obs/state":
            return self.state(demo)[first:stop]
        return np.stack([obs[key.removeprefix("obs/")] for obs in self.observations(demo, first, stop)])

    def stored(self, demo: str, name: str) -> npt.NDArray[Any]:
        """Read a stored array (T, ...) of a demo by its path, without the observation after the last action.

        Raises:
            DataError: the bytes cannot be read.
        """
        with self.clear_errors(demo, name):
            return self.handle[demo][name][: self.length(demo)]

    def state(self, demo: str) -> Any:
        """Return the array of state vectors of a demo, without reading it, or None."""
        obs = self.handle[demo].get("obs", {})
        found = obs if hasattr(obs, "shape") else obs.get("state")
        return found if hasattr(found, "shape") else None

    def vectors(self, demo: str) -> list[str]:
        """Return the paths of the arrays from which the observations are computed, except the points."""
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
        """Apply the recipe to the raw clouds of steps `first` to `stop` (excluded).

        Raises:
            DataError: the recipe cannot be applied; the message names the step.
        """
        stored = stored_arrays(self.handle[f"{demo}/obs"])
        arrays = {name: array[first:stop] for name, array in stored.items()}
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
        """The observations of the first demo: an array, a group, or an empty tuple."""
        demos = self.demos()
        return self.handle[demos[0]].get("obs", ()) if demos else ()

    @property
    def is_converted(self) -> bool:
        """Whether `difftori data convert` wrote this file."""
        return CONVERTED in self.handle.attrs

    @property
    def has_states(self) -> bool:
        """Whether the observations are state vectors."""
        return hasattr(self._first_obs, "shape") or (not self.has_clouds and "state" in self._first_obs)

    @property
    def has_clouds(self) -> bool:
        """Whether the observations are point clouds, raw or converted."""
        return self.is_converted or (hasattr(self._first_obs, "keys") and "pointcloud" in self._first_obs)

    @property
    def is_first_generation(self) -> bool:
        """Whether this is a ManiSkill1 file, which has no JSON file and stores success as `dones`."""
        demos = self.demos()
        return bool(demos) and "dones" in self.handle[demos[0]] and "success" not in self.handle[demos[0]]

    def succeeded(self, demo: str) -> bool:
        """See `TrajectoryFile.succeeded`; ManiSkill1 stores success as `dones`."""
        if not self.is_first_generation:
            return super().succeeded(demo)
        outcome = self.handle[f"{demo}/dones"]
        return len(outcome) > 0 and bool(outcome[-1])

    def meta(self) -> dict[str, Any]:
        """See `TrajectoryFile.meta`; empty for ManiSkill1, which has no JSON file."""
        if self.is_converted:
            return self._conversion()["meta"]
        if self.is_first_generation and not self.path.with_suffix(".json").exists():
            return {}
        return super().meta()

    def _conversion(self) -> dict[str, Any]:
        """Read the `recipe` and the `meta` that `difftori data convert` stored.

        Raises:
            DataError: they are damaged or from another version.
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
        """Return the JSON entry of a trajectory; without one, as in ManiSkill1, `episode_seed` is its number."""
        number = int(natural_order(demo)[1])
        if self._episodes is None:
            self._episodes = {episode["episode_id"]: episode for episode in self.meta().get("episodes", [])}
        return {"episode_seed": number} | self._episodes.get(number, {})

    def stored_recipe(self) -> PointCloudRecipe:
        """Return the recipe with which a converted file was made."""
        recipe: PointCloudRecipe = self._conversion()["recipe"]
        return recipe
