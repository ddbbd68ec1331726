"""What can be wrong with ManiSkill's trajectories, each rule once."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from datamodules.faults import Fault, merge
from datamodules.maniskill_file import ManiSkillFile

_MODES = {"state": "states", "state_dict": "states", "pointcloud": "clouds"}
_REPLAY = (
    "Replay the trajectories: python -m mani_skill2.trajectory.replay_trajectory --traj-path trajectory.h5 "
    "--save-traj --target-control-mode pd_ee_delta_pose --obs-mode pointcloud"
)


def file_faults(file: ManiSkillFile, wanted: Mapping[str, str | None] | None = None) -> Iterator[Fault]:
    """Find what is wrong with the file as a whole.

    Args:
        file: the file.
        wanted: `control_mode` and `env_id` that the file is wanted for; None for any.

    Raises:
        DataError: it cannot be opened, or the JSON file is missing or damaged.
    """
    name, demos = file.path.name, file.demos()
    if not demos:
        found = ", ".join(file.handle) or "nothing"
        yield Fault("no_demos", name, f"expected groups traj_0, traj_1, ..., found {found}", "Record or download some.")
        return
    meta = file.meta()
    yield from _other_episodes(name, demos, [f"traj_{episode['episode_id']}" for episode in meta.get("episodes", [])])
    content = "clouds" if file.has_clouds else "states" if "obs" in file.handle[demos[0]] else "none"
    declared = next((mode for mode in name.split(".")[1:-1] if mode in _MODES), None)
    if declared is not None and not file.is_converted and _MODES[declared] != content:
        yield Fault(
            "obs_mode", name, f"expected {declared} observations, as the name says, found {content}", "Rename the file."
        )
    env = meta.get("env_info", {})
    present = {"env_id": env.get("env_id"), "control_mode": env.get("env_kwargs", {}).get("control_mode")}
    advice = {"env_id": "Use data of the same task.", "control_mode": _REPLAY}
    for key, value in (wanted or {}).items():
        if value is not None and present[key] not in (None, value):
            yield Fault(key, name, f"expected demonstrations of {key} {value}, found {present[key]}", advice[key])


def _other_episodes(name: str, demos: Sequence[str], listed: Sequence[str]) -> Iterator[Fault]:
    missing = [demo for demo in demos if demo not in set(listed)] if listed else []
    absent = [demo for demo in listed if demo not in set(demos)]
    if missing or absent:
        what = f"{missing[0]} is not in it" if missing else f"it lists {absent[0]}, which the file lacks"
        yield Fault(
            "episodes",
            name,
            f"expected the JSON file to list the same trajectories, found that {what}",
            "The two belong to different recordings, or one was cut short: copy both again.",
            n_more=len(missing) + len(absent) - 1,
        )


def demo_faults(file: ManiSkillFile, demos: Sequence[str], action_dim: int) -> list[Fault]:
    """Find what is wrong with these demos; equal faults of several demos are reported once and counted."""
    return merge(fault for demo in demos for fault in _wrong(file, demo, action_dim))


def all_faults(file: ManiSkillFile) -> list[Fault]:
    """Find all that is wrong with a file, whatever it is wanted for; the points of raw clouds are not looked at."""
    demos = file.demos()
    left_out = {demo: fault for demo in demos if (fault := unusable(file, demo)) is not None}
    sound = [demo for demo in demos if demo not in left_out]
    action_dim = file.shape(sound[0], "actions")[1] if sound else 0
    return [*file_faults(file), *merge(left_out.values()), *demo_faults(file, sound, action_dim)]


def unusable(file: ManiSkillFile, demo: str) -> Fault | None:
    """Why a trajectory is no demonstration of the task, if it is none."""
    if file.length(demo) == 0:
        return Fault("empty_demo", demo, "expected at least one step, found none", _LEAVE_OUT)
    if not file.succeeded(demo):
        return Fault("failed_demo", demo, "expected success at the end, found a failure", _LEAVE_OUT)
    return None


_LEAVE_OUT = "Leave such trajectories out (drop_failed: true), or record them again."


def _wrong(file: ManiSkillFile, demo: str, action_dim: int) -> Iterator[Fault]:
    group, n_steps = file.handle[demo], file.length(demo)
    if "obs" not in group or not (hasattr(group["obs"], "shape") or len(group["obs"])):
        yield Fault("no_obs", demo, "expected observations, found a recording without them", _REPLAY)
        return
    lengths: dict[str, int] = {}
    group.visititems(
        lambda name, item: (
            lengths.update({name: len(item)}) if hasattr(item, "shape") and name.startswith("obs") else None
        )
    )
    for name, length in lengths.items():
        if length not in (n_steps, n_steps + 1):
            problem = f"expected {n_steps} or {n_steps + 1} steps in {name}, as there are actions, found {length}"
            yield Fault("length", demo, problem, "The recording was cut short: remove it, or record it again.", name)
            return
    actions = file.read(demo, "actions")
    if actions.shape[1] != action_dim:
        problem = f"expected actions of size {action_dim}, found {actions.shape[1]}"
        yield Fault("action_dim", demo, problem, "Set action_dim to the file's, or use data of another controller.")
    elif not np.isfinite(actions).all() or (file.has_states and not np.isfinite(file.read(demo, "obs/state")).all()):
        yield Fault("not_finite", demo, "expected finite actions and states, found others", "Remove the demo.")
    elif (np.abs(actions) > 1 + 1e-6).any():
        problem = f"expected actions in [-1, 1], found {np.abs(actions).max():g}"
        yield Fault("action_range", demo, problem, f"Joint positions are no such actions. {_REPLAY}")
