"""Faults of files of ManiSkill trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.faults import (
    Fault,
    Request,
    is_numeric,
    merge,
    not_finite,
    not_scaled,
    unreadable,
    wrong_actions,
)
from datamodules.formats.maniskill_reader import ManiSkillReader
from datamodules.formats.trajectory_faults import no_trajectories, none_usable, other_content

_MODES = {"state": "states", "pointcloud": "clouds"}
_REPLAY = (
    "Replay the trajectories: python -m mani_skill2.trajectory.replay_trajectory --traj-path trajectory.h5 "
    "--save-traj --target-control-mode pd_ee_delta_pose --obs-mode pointcloud"
)


def file_faults(file: ManiSkillReader, request: Request) -> Iterator[Fault]:
    """Yield the faults of the file as a whole.

    Raises:
        DataError: the file cannot be opened, or the JSON file is missing or damaged.
    """
    name, demos = file.path.name, file.demos()
    if not demos:
        yield no_trajectories(file)
        return
    incomplete = merge(fault for demo in demos for fault in _missing(file, demo))
    if incomplete:
        yield from incomplete
        return
    content = "clouds" if file.has_clouds else "states" if file.has_states else "other observations"
    declared = next((mode for mode in name.split(".")[1:-1] if mode in _MODES), None)
    if declared is not None and not file.is_converted and _MODES[declared] != content:
        yield Fault(
            "obs_mode", name, f"expected {declared} observations from the name, found {content}", "Rename the file."
        )
    yield from other_content(file, file.meta(), request, _REPLAY)
    if file.is_converted and file.stored_recipe() != file.recipe:
        stored = vars(file.stored_recipe())
        differing = {key: (stored[key], value) for key, value in vars(file.recipe).items() if stored[key] != value}
        problem = f"expected clouds converted with other settings; differences (name: file, expected): {differing}"
        advice = "Set data.init_args.cloud to the settings of the file, or convert the raw file again."
        yield Fault("recipe", name, problem, advice)
    if not file.usable(request):
        yield none_usable(file)


def _missing(file: ManiSkillReader, demo: str) -> Iterator[Fault]:
    group, outcome = file.handle[demo], "dones" if file.is_first_generation else "success"
    if not hasattr(group.get("actions"), "shape"):
        yield Fault("no_actions", demo, "expected an array `actions`, found none", "Remove the trajectory.")
    if not hasattr(group.get(outcome), "shape"):
        problem = f"expected an array `{outcome}`, found {', '.join(group) or 'nothing'}"
        yield Fault("no_success", demo, problem, f"Without it, failed trajectories cannot be recognised. {_REPLAY}")


def demo_faults(file: ManiSkillReader, demos: Sequence[str], request: Request) -> list[Fault]:
    """Return the faults of these demos; equal faults of several demos are reported once and counted."""
    failures = {demo: fault for demo in demos if (fault := file.failure(demo)) is not None}
    successful = [demo for demo in demos if demo not in failures]
    action_dim = request.action_dim
    if action_dim is None and successful:
        action_dim = next(
            (shape[1] for shape in (file.shape(demo, "actions") for demo in successful) if len(shape) == 2), 0
        )
    faults = [*failures.values(), *(fault for demo in successful for fault in _wrong(file, demo, action_dim, request))]
    if not faults and request.obs_dims:
        found = {key: file.shape(demos[0], f"obs/{key}")[1] for key in file.obs_keys() if key != "point_cloud"}
        if found != request.obs_dims:
            problem = f"expected low-dimensional observations {request.obs_dims}, found {found}"
            faults = [Fault("shape", demos[0], problem, "Set data.init_args.obs_dims to the file's.")]
    return merge(faults)


def _wrong(file: ManiSkillReader, demo: str, action_dim: int | None, request: Request) -> Iterator[Fault]:
    fault = (
        _wrong_observations(file, demo)
        or _wrong_lengths(file, demo)
        or wrong_actions(demo, file.handle[demo]["actions"], action_dim)
    )
    if fault is not None:
        yield fault
        return
    for name in ("actions", *file.vectors(demo)):
        try:
            values = file.stored(demo, name)
        except DataError as error:
            yield unreadable(file.path, name, error)
            continue
        fault = not_finite(demo, name, values)
        if fault is None and name == "actions" and request.unscaled_actions is not False:
            advice = (
                "Actions of a PPO policy may slightly exceed the range: clip them to [-1, 1] in the file, as the "
                f"controller does. {_REPLAY}"
            )
            fault = not_scaled(demo, values, advice)
        if fault is not None:
            yield fault


def _wrong_observations(file: ManiSkillReader, demo: str) -> Fault | None:
    obs = file.handle[demo].get("obs", ())
    if not (hasattr(obs, "shape") or len(obs)):
        return Fault("no_obs", demo, "expected observations, found a recording without them", _REPLAY)
    if file.has_clouds:
        fits = "point_cloud" in obs if file.is_converted else "pointcloud" in obs
    else:
        state = file.state(demo)
        fits = state is not None and is_numeric(state) and state.ndim == 2
    if fits:
        return None
    found = f"{obs.dtype} {obs.shape}" if hasattr(obs, "shape") else ", ".join(obs)
    expected = "point clouds" if file.has_clouds else "states (steps, size) or point clouds"
    problem = f"expected {expected} as observations, found {found}"
    return Fault("obs_mode", demo, problem, f"Other observation modes are not supported. {_REPLAY}")


def _wrong_lengths(file: ManiSkillReader, demo: str) -> Fault | None:
    n_steps = file.length(demo)
    arrays: dict[str, Any] = {name: file.handle[demo][name] for name in file.keys(demo) if name.startswith("obs")}
    for name, array in arrays.items():
        found = array.shape[0] if array.shape else 0
        if found not in (n_steps, n_steps + 1):
            problem = f"expected {n_steps} or {n_steps + 1} steps in {name} for {n_steps} actions, found {found}"
            return Fault("length", demo, problem, "The recording is truncated: remove it, or record it again.", name)
    return None
