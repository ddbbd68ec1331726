"""Recording of scripted experts in robomimic's HDF5 layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import h5py
import numpy as np
from tqdm import tqdm

from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_VALIDATION_FRACTION = 0.1
"""The fraction in robomimic's own files."""


class Played(NamedTuple):
    """One recorded episode.

    Attributes:
        arrays: robomimic's arrays by their paths in the group of the demo, including `actions` (T, A) in [-1, 1].
        env_args: robomimic's description of the environment: `env_name`, `type`, `env_kwargs`.
        attributes: further HDF5 attributes of the demo.
    """

    arrays: Mapping[str, NDArray[Any]]
    env_args: Mapping[str, Any]
    attributes: Mapping[str, str]


class Player(Protocol):
    """An expert and its task. It is cheap to send to a worker process, which builds the environment."""

    @property
    def recipe(self) -> dict[str, Any]:
        """Settings that, together with the seed, determine an episode, as JSON types; includes `task`."""

    def play(self, seed: int) -> Played | None:
        """Play the episode of a seed; return None if the expert fails."""


class Recording(NamedTuple):
    """Result of `record`.

    Attributes:
        n_demos: number of episodes in the file.
        n_failures: number of episodes in which the expert failed; they are not in the file.
        n_steps: number of environment steps in the file.
    """

    n_demos: int
    n_failures: int
    n_steps: int


class _Job(NamedTuple):
    player: Player
    seed: int
    success: str
    failure: str


def record(
    player: Player,
    path: str | Path,
    episodes: int = 100,
    seed: int = 0,
    n_processes: int | None = None,
    progress: bool = True,
) -> Recording:
    """Record demonstrations of an expert; an interrupted recording is resumed.

    Episode i starts from the initial state of seed `seed + i`, so the file does not depend on the number of processes.

    Args:
        player: the expert and its task.
        path: the HDF5 file to write; `<path>.parts` holds finished episodes until all are recorded.
        episodes: number of successful episodes to record.
        seed: seed of the first episode.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.

    Raises:
        DataError: the file exists and is damaged.
        ConfigurationError: the file exists with other demonstrations.
        MissingPackageError: the simulator is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    path = Path(path).expanduser()
    recipe = {**player.recipe, "seed": seed}
    if path.exists():
        return _check_existing(path, recipe, episodes)
    parts = Parts(path, recipe)

    def job(index: int) -> _Job:
        success, failure = parts[f"{index}.hdf5"], parts[f"{index}.failed"]
        return _Job(player, seed + index, str(success), str(failure))

    n_started = episodes
    n_failures = 0

    def replace_failure(success: bool) -> _Job | None:
        nonlocal n_started, n_failures
        if success:
            return None
        n_failures += 1
        n_started += 1
        return job(n_started - 1)

    with tqdm(total=episodes, unit="demo", desc=f"recording {recipe['task']}", disable=not progress) as bar:
        for success in run_all(_record_episode, [job(i) for i in range(episodes)], n_processes, replace_failure):
            bar.update(success)
            bar.set_postfix(failures=n_failures + (not success))
    recorded = [parts[f"{i}.hdf5"] for i in range(n_started) if parts[f"{i}.hdf5"].exists()]
    with whole_file(path) as draft:
        recording = _merge(recorded, draft, recipe, n_failures)
    parts.remove()
    return recording


def _record_episode(job: _Job) -> bool:
    """Play one episode and write it to its part, unless it is finished; return whether the expert succeeded."""
    if Path(job.failure).exists():
        return False
    if not Path(job.success).exists():
        played = job.player.play(job.seed)
        if played is None:
            Path(job.failure).touch()
            return False
        with whole_file(Path(job.success)) as draft, h5py.File(draft, "w") as file:
            for name, values in played.arrays.items():
                file.create_dataset(name, data=values, compression="gzip" if values.ndim > 1 else None)
            file.attrs.update({**played.attributes, "num_samples": len(played.arrays["actions"]), "seed": job.seed})
            file.attrs["env_args"] = json.dumps(played.env_args, indent=4)
    return True


def _check_existing(path: Path, recipe: dict[str, Any], episodes: int) -> Recording:
    """Count the demonstrations of a finished file, after checking that they are the requested ones."""
    file = RobomimicFile(path)
    try:
        with file.clear_errors():
            attributes = file.handle["data"].attrs
            expert = json.loads(attributes.get("expert", "null"))
            n_demos, total = len(file.demos()), int(attributes.get("total", 0))
    finally:
        file.close()
    if expert is None or n_demos != episodes or any(expert.get(key) != value for key, value in recipe.items()):
        raise ConfigurationError(
            f"{path} exists with other demos: expected {episodes} of {recipe}, got {n_demos} of {expert}. "
            "Choose another name, or delete it to record again"
        )
    return Recording(n_demos, expert["n_failures"], total)


def _merge(recorded: list[Path], path: Path, recipe: dict[str, Any], n_failures: int) -> Recording:
    """Merge the episodes into one file."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        total = 0
        for index, part in enumerate(recorded):
            with h5py.File(part, "r") as episode:
                demo = data.create_group(f"demo_{index}")
                for name in episode:
                    episode.copy(name, demo)
                attributes = dict(episode.attrs)
                data.attrs["env_args"] = attributes.pop("env_args")
                demo.attrs.update(attributes)
                total += int(attributes["num_samples"])
        data.attrs["total"] = total
        data.attrs["expert"] = json.dumps({**recipe, "n_failures": n_failures})
        names = [f"demo_{i}" for i in np.random.default_rng(recipe["seed"]).permutation(len(recorded))]
        n_valid = min(max(round(_VALIDATION_FRACTION * len(names)), 1), len(names) - 1)
        file.create_dataset("mask/valid", data=np.array(sorted(names[:n_valid]), dtype="S16"))
        file.create_dataset("mask/train", data=np.array(sorted(names[n_valid:]), dtype="S16"))
    return Recording(len(recorded), n_failures, total)
