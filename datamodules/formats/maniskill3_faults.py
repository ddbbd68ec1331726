"""Faults of files of ManiSkill3 trajectories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.array_faults import wrong_image, wrong_low_dim, wrong_shape
from datamodules.formats.faults import Fault, Request, merge, not_finite, not_scaled, unreadable, wrong_actions
from datamodules.formats.maniskill3_reader import ManiSkill3Reader
from datamodules.formats.trajectory_faults import no_trajectories, none_usable, other_content


def file_faults(file: ManiSkill3Reader, request: Request) -> Iterator[Fault]:
    """Yield the faults of the file as a whole.

    Raises:
        DataError: the file cannot be opened, or the JSON file is missing or damaged.
    """
    demos = file.demos()
    if not demos:
        yield no_trajectories(file)
        return
    incomplete = merge(fault for demo in demos for fault in _missing(file, demo))
    if incomplete:
        yield from incomplete
        return
    mode = "CONTROL_MODE" if request.control_mode is None else request.control_mode
    yield from other_content(file, file.meta(), request, _replay(file, f"--target-control-mode {mode}"))
    if not file.usable(request):
        yield none_usable(file)


def demo_faults(file: ManiSkill3Reader, demos: Sequence[str], request: Request) -> list[Fault]:
    """Return the faults of these demos; equal faults of several demos are reported once and counted."""
    failures = {demo: fault for demo in demos if (fault := file.failure(demo)) is not None}
    successful = [demo for demo in demos if demo not in failures]
    vectors, images = file.required(successful, request)
    shapes: dict[str, tuple[int, ...]] = {}
    action_dim, unscaled = request.action_dim, request.unscaled_actions
    if unscaled is None:
        # The other controllers take radians and metres.
        unscaled = "delta" in str(file.interface().get("control_mode"))
    faults = list(failures.values())
    for demo in successful:
        actions = file.handle[demo]["actions"]
        fault = wrong_actions(demo, actions, action_dim)
        if fault is not None:
            faults.append(fault)
            continue
        action_dim = actions.shape[1]
        faults += _wrong_values(file, demo, "actions", unscaled)
        for name in (*vectors, *images):
            faults += _wrong_observation(file, demo, name, name in images, shapes)
    return merge(faults)


def _missing(file: ManiSkill3Reader, demo: str) -> Iterator[Fault]:
    group = file.handle[demo]
    actions, success = group.get("actions"), group.get("success")
    if not hasattr(actions, "shape"):
        found = "none" if actions is None else f"one for each of several agents ({', '.join(actions)})"
        yield Fault("no_actions", demo, f"expected an array `actions`, found {found}", "Remove the trajectory.")
    if success is not None and not hasattr(success, "shape"):
        yield Fault("no_success", demo, "expected an array `success`, found a group", "Record the trajectory again.")
    if not file.observations(demo):
        problem = "expected observations, found a recording without them (obs_mode none)"
        yield Fault("no_obs", demo, problem, _replay(file, "--obs-mode state_dict (or rgb)"))


def _wrong_observation(
    file: ManiSkill3Reader, demo: str, name: str, is_image: bool, shapes: dict[str, tuple[int, ...]]
) -> list[Fault]:
    stored = file.observations(demo)
    if name not in stored:
        return [_missing_key(file, demo, name, is_image, list(stored))]
    fault = (wrong_image if is_image else wrong_low_dim)(demo, name, stored[name])
    fault = fault or wrong_shape(demo, name, stored[name].shape, file.length(demo), shapes)
    if fault is not None:
        return [fault]
    return [] if is_image else _wrong_values(file, demo, name, False)


def _missing_key(file: ManiSkill3Reader, demo: str, name: str, is_image: bool, stored: list[str]) -> Fault:
    found = ", ".join(other.removeprefix("obs/") for other in stored)
    mode = file.meta()["env_info"]["env_kwargs"].get("obs_mode", "unknown")
    problem = f"expected the observation {name.removeprefix('obs/')!r}, found {found} (obs_mode {mode})"
    advice = f"Choose one of these keys. {_replay(file, '--obs-mode ' + ('rgb' if is_image else 'state_dict'))}"
    return Fault("missing_key", demo, problem, advice, name)


def _wrong_values(file: ManiSkill3Reader, demo: str, name: str, unscaled: bool) -> list[Fault]:
    try:
        values: Any = file.read(demo, name)
    except DataError as error:
        return [unreadable(file.path, name, error)]
    fault = not_finite(demo, name, values)
    if fault is None and unscaled:
        replay = _replay(file, "--target-control-mode pd_ee_delta_pose")
        fault = not_scaled(
            demo, values, f"The controller {file.interface().get('control_mode')} may be absolute. {replay}"
        )
    return [] if fault is None else [fault]


def _replay(file: ManiSkill3Reader, option: str) -> str:
    return (
        "Replay the trajectories: python -m mani_skill.trajectory.replay_trajectory --traj-path "
        f"{file.path.name} --save-traj --sim-backend physx_cpu {option}"
    )
