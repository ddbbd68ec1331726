"""Raw point clouds of ManiSkill to a file that training can load: cut down once, chunked and compressed."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from datamodules.maniskill_faults import file_faults, unusable
from datamodules.maniskill_file import CONVERTED, ManiSkillFile
from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.errors import ConfigurationError

_STEPS_PER_CHUNK = 4
"""Training reads windows of a few steps that begin anywhere."""


class Plan(NamedTuple):
    """What a conversion will do.

    Attributes:
        demos: the trajectories that are demonstrations.
        n_left_out: trajectories that failed or are empty.
        n_steps: environment steps to convert.
        max_bytes: size of the result before compression.
    """

    demos: list[str]
    n_left_out: int
    n_steps: int
    max_bytes: int


class _Job(NamedTuple):
    source: str
    demo: str
    recipe: PointCloudRecipe
    part: str


def plan(path: str | Path, recipe: PointCloudRecipe) -> Plan:
    """Look at what is to be converted.

    Args:
        path: ManiSkill's HDF5 file, with raw point clouds.
        recipe: how the clouds are cut down.

    Raises:
        DataError: the file cannot be used.
        ConfigurationError: it holds no raw point clouds.
    """
    file = ManiSkillFile(path, recipe)
    try:
        for fault in file_faults(file, None):
            raise ConfigurationError(f"{path}: {fault}")
        if file.is_converted or not file.has_clouds:
            found = "clouds that are converted already" if file.is_converted else "no point clouds"
            raise ConfigurationError(f"{path} holds {found}; convert a file that was replayed with obs_mode pointcloud")
        every = file.demos()
        demos = [demo for demo in every if unusable(file, demo) is None]
        if not demos:
            raise ConfigurationError(f"{path}: none of the {len(every)} trajectories is a success")
        n_steps = sum(file.length(demo) for demo in demos)
        a_step = 2 * int(np.prod(recipe.shape)) + (4 * file.shape(demos[0], "obs/robot_state")[1] * recipe.robot_state)
        return Plan(demos, len(every) - len(demos), n_steps, n_steps * a_step)
    finally:
        file.close()


def convert(
    path: str | Path,
    output: str | Path,
    recipe: PointCloudRecipe,
    n_processes: int | None = None,
    progress: bool = True,
) -> int:
    """Cut the clouds of a file down; called again after an interruption, it goes on where it stopped.

    The result holds to the bit what `ManiSkillDataModule` makes of the raw file. It is a file of the same layout, with
    `obs/point_cloud` and `obs/robot_state`, and needs no JSON file: the attribute `difftori_point_cloud` says what it
    was made of and how.

    Args:
        path: ManiSkill's HDF5 file, with raw point clouds.
        output: the file to write; finished trajectories are kept in a folder beside it until all are there.
        recipe: how the clouds are cut down.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.

    Returns:
        The size of the result in bytes.

    Raises:
        DataError: the file, or a cloud in it, cannot be used.
        ConfigurationError: it holds no raw point clouds, or `output` exists.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    if output.exists():
        raise ConfigurationError(f"{output} exists: choose another name, or delete it to convert it anew")
    demos = plan(path, recipe).demos
    stamp = path.stat()
    parts = Parts(output, {"source": str(path.resolve()), "changed": stamp.st_mtime_ns, **asdict(recipe)})
    pieces = {demo: parts[f"{demo}.h5"] for demo in demos}
    jobs = [_Job(str(path), demo, recipe, str(part)) for demo, part in pieces.items() if not part.exists()]
    done = len(demos) - len(jobs)
    with tqdm(total=len(demos), initial=done, unit="demo", desc="converting", disable=not progress) as bar:
        for _ in run_all(_convert_demo, jobs, n_processes):
            bar.update()
    with whole_file(output) as draft:
        _merge(path, recipe, pieces, draft)
    parts.remove()
    return output.stat().st_size


def _convert_demo(job: _Job) -> None:
    """Convert and keep one trajectory."""
    file = ManiSkillFile(job.source, job.recipe)
    try:
        observed = file.observations(job.demo, 0, file.length(job.demo))
        with whole_file(Path(job.part)) as draft, h5py.File(draft, "w") as part:
            for name in ("actions", "dones" if file.is_first_generation else "success"):
                part[name] = file.read(job.demo, name)
            for key in observed[0]:
                values = np.stack([obs[key] for obs in observed])
                chunk = (min(_STEPS_PER_CHUNK, len(values)), *values.shape[1:])
                part.create_dataset(f"obs/{key}", data=values, chunks=chunk, compression="gzip", shuffle=True)
    finally:
        file.close()


def _merge(source: Path, recipe: PointCloudRecipe, pieces: dict[str, Path], output: Path) -> None:
    """Put the trajectories into one file."""
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
