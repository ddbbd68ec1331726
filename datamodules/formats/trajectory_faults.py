"""Faults that the trajectories of all generations of ManiSkill can have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datamodules.formats.faults import Fault, Request
from datamodules.formats.trajectory_file import TrajectoryFile


def no_trajectories(file: TrajectoryFile) -> Fault:
    """Return the fault of a file without `traj_<i>` groups."""
    found = ", ".join(file.handle) or "nothing"
    problem = f"expected groups traj_0, traj_1, ..., found {found}"
    return Fault("no_demos", file.path.name, problem, "Record or download demos.")


def other_content(file: TrajectoryFile, meta: dict[str, Any], request: Request, replay: str) -> Iterator[Fault]:
    """Yield the faults of a JSON file that lists other trajectories, or another task or controller than requested.

    Args:
        file: the file.
        meta: content of its JSON file, see `TrajectoryFile.meta`.
        request: the required data.
        replay: advice on how to record the trajectories with another controller.
    """
    name, env = file.path.name, meta.get("env_info", {})
    yield from _other_episodes(name, file.demos(), [f"traj_{item['episode_id']}" for item in meta.get("episodes", [])])
    comparisons = [
        ("env_id", request.task, env.get("env_id"), "Use data of the same task."),
        ("control_mode", request.control_mode, env.get("env_kwargs", {}).get("control_mode"), replay),
    ]
    for key, expected, found, advice in comparisons:
        if expected is not None and found not in (None, expected):
            yield Fault(key, name, f"expected demonstrations of {key} {expected}, found {found}", advice)


def none_usable(file: TrajectoryFile) -> Fault:
    """Return the fault of a file without a successful trajectory."""
    problem = f"none of the {len(file.demos())} trajectories is successful"
    return Fault("no_demos", file.path.name, problem, "Record others.")


def _other_episodes(name: str, demos: Sequence[str], listed: Sequence[str]) -> Iterator[Fault]:
    missing = [demo for demo in demos if demo not in set(listed)] if listed else []
    absent = [demo for demo in listed if demo not in set(demos)]
    if missing or absent:
        difference = f"it lacks {missing[0]}" if missing else f"it lists {absent[0]}, which the file lacks"
        yield Fault(
            "episodes",
            name,
            f"expected the JSON file to list the same trajectories, but {difference}",
            "The files belong to different recordings, or one is truncated: copy both again.",
            n_more=len(missing) + len(absent) - 1,
        )
