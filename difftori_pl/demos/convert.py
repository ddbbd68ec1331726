"""Conversion of ManiSkill files for training: downsample point clouds, or render them from states."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from datamodules.formats.faults import Request
from datamodules.formats.maniskill_file import ManiSkillFile
from datamodules.formats.maniskill_reader import CONVERTED
from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.envs.maniskill import ManiSkill
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from difftori_pl.envs.maniskill_env import ManiSkillEnv

_STEPS_PER_CHUNK = 4
"""Steps per HDF5 chunk. It is small because training reads windows of a few steps that begin at any step."""


class Plan(NamedTuple):
    """Scope of a conversion.

    Attributes:
        demos: names of the trajectories to convert.
        n_left_out: number of failed or empty trajectories.
        n_steps: number of environment steps to convert.
        max_bytes: size of the result before compression.
        renders: the file has no clouds, so they are rendered from its states.
    """

    demos: list[str]
    n_left_out: int
    n_steps: int
    max_bytes: int
    renders: bool


class _Job(NamedTuple):
    source: str
    demo: str
    recipe: PointCloudRecipe
    shader: str
    renders: bool
    part: str


def plan(path: str | Path, recipe: PointCloudRecipe, n_demos: int | None = None) -> Plan:
    """Determine the scope of a conversion.

    Args:
        path: ManiSkill's HDF5 file, with raw point clouds or with states.
        recipe: settings of the point clouds.
        n_demos: number of demonstrations to convert, from the first; all if None.

    Raises:
        DataError: the file cannot be used.
        ConfigurationError: the file has neither raw point clouds nor states.
    """
    file = ManiSkillFile(path, None)
    try:
        with file.clear_errors():
            return _plan(file, recipe, n_demos)
    finally:
        file.close()


def _plan(file: ManiSkillFile, recipe: PointCloudRecipe, n_demos: int | None) -> Plan:
    for fault in file.file_faults(Request(drop_failed=True)):
        raise ConfigurationError(f"{file.path}: {fault}")
    if file.is_converted:
        raise ConfigurationError(f"{file.path} is already converted")
    usable = file.usable(Request(drop_failed=True))
    renders = not file.has_clouds
    if renders and "env_states" not in file.handle[usable[0]]:
        raise ConfigurationError(f"{file.path} has neither point clouds nor env_states from which to render them")
    demos = usable[:n_demos]
    n_steps = sum(file.length(demo) for demo in demos)
    n_left_out = len(file.demos()) - len(usable)
    return Plan(demos, n_left_out, n_steps, n_steps * 2 * int(np.prod(recipe.shape)), renders)


def convert(
    path: str | Path,
    output: str | Path,
    recipe: PointCloudRecipe,
    n_processes: int | None = None,
    progress: bool = True,
    n_demos: int | None = None,
    shader: str = "ibl",
) -> int:
    """Downsample the clouds of a file, or render them from its states; an interrupted conversion is resumed.

    Converted raw clouds are bitwise equal to those that `ManiSkillDataModule` computes. If the file has no clouds,
    ManiSkill2 renders each stored state as the environment would have observed it. The result has the same layout,
    with `obs/point_cloud` and `obs/robot_state`. It needs no JSON file: the attribute `difftori_point_cloud` describes
    the source and the settings.

    Args:
        path: ManiSkill's HDF5 file.
        output: the file to write; `<output>.parts` holds finished trajectories until all are converted.
        recipe: settings of the point clouds.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.
        n_demos: number of demonstrations to convert, from the first; all if None.
        shader: shader that colours rendered points; see `ManiSkill`.

    Returns:
        The size of the result in bytes.

    Raises:
        DataError: the file, or a cloud in it, cannot be used.
        ConfigurationError: the file has nothing to convert, or `output` exists.
        MissingPackageError: clouds must be rendered, but ManiSkill2 or Vulkan is not installed.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    if output.exists():
        raise ConfigurationError(f"{output} exists: choose another name, or delete it to convert again")
    todo = plan(path, recipe, n_demos)
    stamp = path.stat()
    recipe_of_parts = {"source": str(path.resolve()), "changed": stamp.st_mtime_ns, "shader": shader, **asdict(recipe)}
    parts = Parts(output, recipe_of_parts)
    pieces = {demo: parts[f"{demo}.h5"] for demo in todo.demos}
    jobs = [
        _Job(str(path), demo, recipe, shader, todo.renders, str(part))
        for demo, part in pieces.items()
        if not part.exists()
    ]
    total, done = len(pieces), len(pieces) - len(jobs)
    description = "rendering" if todo.renders else "converting"
    with tqdm(total=total, initial=done, unit="demo", desc=description, disable=not progress) as bar:
        for _ in run_all(_convert_demo, jobs, n_processes):
            bar.update()
    with whole_file(output) as draft:
        _merge(path, recipe, pieces, draft)
    parts.remove()
    return output.stat().st_size


def _convert_demo(job: _Job) -> None:
    """Convert one trajectory and write it to its part."""
    file = ManiSkillFile(job.source, job.recipe)
    try:
        observed = _render(file, job) if job.renders else file.observations(job.demo, 0, file.length(job.demo))
        with whole_file(Path(job.part)) as draft, h5py.File(draft, "w") as part:
            for name in ("actions", "dones" if file.is_first_generation else "success"):
                part[name] = file.read(job.demo, name)
            for key in observed[0]:
                values = np.stack([obs[key] for obs in observed])
                chunk = (min(_STEPS_PER_CHUNK, len(values)), *values.shape[1:])
                part.create_dataset(f"obs/{key}", data=values, chunks=chunk, compression="gzip", shuffle=True)
    finally:
        file.close()


def _render(file: ManiSkillFile, job: _Job) -> list[dict[str, NDArray[Any]]]:
    """Render the observations of a trajectory from its states."""
    interface = file.interface()
    env = _env(interface["env_id"], interface["control_mode"], job.recipe, job.shader)
    env.reset(seed=file.episode(job.demo)["episode_seed"])
    states = file.read(job.demo, "env_states")
    return [env.observe_state(state, step) for step, state in enumerate(states)]


@cache
def _env(task: str, control_mode: str, recipe: PointCloudRecipe, shader: str) -> ManiSkillEnv:
    """Build the environment, once per process."""
    return ManiSkill(task, control_mode, recipe, shader=shader)()


def _merge(source: Path, recipe: PointCloudRecipe, pieces: dict[str, Path], output: Path) -> None:
    """Merge the trajectories into one file."""
    raw = ManiSkillFile(source, recipe)
    meta = raw.meta()
    raw.close()
    if meta:
        kept = {int(demo.removeprefix("traj_")) for demo in pieces}
        meta["episodes"] = [episode for episode in meta["episodes"] if episode["episode_id"] in kept]
    with h5py.File(output, "w") as file:
        file.attrs[CONVERTED] = json.dumps({"source": source.name, "recipe": asdict(recipe), "meta": meta})
        for demo, piece in pieces.items():
            with h5py.File(piece, "r") as part:
                group = file.create_group(demo)
                for name in part:
                    part.copy(name, group)
