"""Recording demonstrations of a scripted expert in robomimic's HDF5 layout."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from difftori_pl.demos.episode import play
from difftori_pl.demos.experts import find_expert
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.envs.robosuite import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.errors import ConfigurationError

_VALIDATION_FRACTION = 0.1
"""As in robomimic's own files."""


class Recording(NamedTuple):
    """What `record` did.

    Attributes:
        n_demos: episodes in the file.
        n_failures: episodes in which the expert failed; they are not in the file.
        n_steps: environment steps in the file.
    """

    n_demos: int
    n_failures: int
    n_steps: int


class _Job(NamedTuple):
    task: str
    seed: int
    max_steps: int
    success: str
    failure: str


def record(
    task: str,
    path: str | Path,
    episodes: int = 100,
    seed: int = 0,
    n_processes: int | None = None,
    max_steps: int = 400,
    progress: bool = True,
) -> Recording:
    """Record demonstrations; called again after an interruption, it goes on where it stopped.

    Episode i starts from the initial state of seed `seed + i`, so the file does not depend on the number of processes.

    Args:
        task: a key of `difftori_pl.demos.EXPERTS`.
        path: the HDF5 file to write; finished episodes are kept in a folder beside it until all are there.
        episodes: how many successful episodes to record.
        seed: seed of the first episode.
        n_processes: number of worker processes; all cores if None.
        max_steps: an episode that takes longer is a failure, environment steps.
        progress: show a progress bar.

    Raises:
        ConfigurationError: there is no expert for the task, or the file exists and is something else.
        MissingPackageError: robosuite is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes is at least 1, but {episodes} came")
    find_expert(task)
    path = Path(path).expanduser()
    recipe = {"task": task, "seed": seed, "max_steps": max_steps}
    if path.exists():
        return _recorded_before(path, recipe, episodes)
    parts = Parts(path, recipe)

    def job(index: int) -> _Job:
        success, failure = parts[f"{index}.hdf5"], parts[f"{index}.failed"]
        return _Job(task, seed + index, max_steps, str(success), str(failure))

    started = episodes
    n_failures = 0

    def one_more(success: bool) -> _Job | None:
        nonlocal started, n_failures
        if success:
            return None
        n_failures += 1
        started += 1
        return job(started - 1)

    with tqdm(total=episodes, unit="demo", desc=f"recording {task}", disable=not progress) as bar:
        for success in run_all(_record_episode, [job(i) for i in range(episodes)], n_processes, one_more):
            bar.update(success)
            bar.set_postfix(failures=n_failures + (not success))
    recorded = [parts[f"{i}.hdf5"] for i in range(started) if parts[f"{i}.hdf5"].exists()]
    with whole_file(path) as draft:
        recording = _merge(recorded, draft, recipe, n_failures)
    parts.remove()
    return recording


@cache
def _env(task: str) -> RobosuiteEnv:
    """The environment of this process."""
    return Robosuite(find_expert(task).task, obs_keys=())()


def _record_episode(job: _Job) -> bool:
    """Play and keep one episode unless that is done already; whether the expert succeeded."""
    if Path(job.failure).exists():
        return False
    if not Path(job.success).exists():
        env = _env(job.task)
        arrays = play(env, find_expert(job.task), job.seed, job.max_steps)
        if arrays is None:
            Path(job.failure).touch()
            return False
        with whole_file(Path(job.success)) as draft, h5py.File(draft, "w") as file:
            for name, values in arrays.items():
                file.create_dataset(name, data=values, compression="gzip" if values.ndim > 1 else None)
            file.attrs["num_samples"] = len(arrays["actions"])
            file.attrs["model_file"] = env.model_file()
            file.attrs["seed"] = job.seed
            file.attrs["env_args"] = json.dumps(env.env_args(), indent=4)
    return True


def _recorded_before(path: Path, recipe: dict[str, Any], episodes: int) -> Recording:
    """What is in a file that an earlier call has finished."""
    with h5py.File(path, "r") as file:
        expert = json.loads(file["data"].attrs.get("expert", "null"))
        n_demos, total = len(file["data"]), int(file["data"].attrs.get("total", 0))
    if expert is None or n_demos != episodes or any(expert.get(key) != value for key, value in recipe.items()):
        raise ConfigurationError(
            f"{path} exists and is not what was asked for ({n_demos} demos of {expert}): choose another name, or "
            "delete it to record it anew"
        )
    return Recording(n_demos, expert["n_failures"], total)


def _merge(recorded: list[Path], path: Path, recipe: dict[str, Any], n_failures: int) -> Recording:
    """Put the episodes into one file."""
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        total = 0
        for index, part in enumerate(recorded):
            with h5py.File(part, "r") as episode:
                demo = data.create_group(f"demo_{index}")
                for name in episode:
                    episode.copy(name, demo)
                for name in ("num_samples", "model_file", "seed"):
                    demo.attrs[name] = episode.attrs[name]
                total += int(episode.attrs["num_samples"])
                data.attrs["env_args"] = episode.attrs["env_args"]
        data.attrs["total"] = total
        data.attrs["expert"] = json.dumps({**recipe, "n_failures": n_failures})
        names = [f"demo_{i}" for i in np.random.default_rng(recipe["seed"]).permutation(len(recorded))]
        n_valid = round(_VALIDATION_FRACTION * len(names))
        file.create_dataset("mask/valid", data=np.array(sorted(names[:n_valid]), dtype="S16"))
        file.create_dataset("mask/train", data=np.array(sorted(names[n_valid:]), dtype="S16"))
    return Recording(len(recorded), n_failures, total)
