"""Motion-planned demonstrations of ManiSkill2's tasks, by its own recorder and its own replay tool."""

from __future__ import annotations

import contextlib
import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from datamodules.formats.maniskill_file import ManiSkillFile
from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.demos.convert import convert
from difftori_pl.demos.maniskill_experts import EXPERTS
from difftori_pl.demos.motion_planner import MotionPlanner, PlanningError
from difftori_pl.demos.parallel import Parts, run_all
from difftori_pl.envs.maniskill_import import import_maniskill, make_task
from difftori_pl.errors import ConfigurationError

PLANNED = "trajectory"
REPLAYED = "trajectory.state.pd_ee_delta_pose"
CLOUDS = "pointcloud.h5"
MAX_FAILURES = 50
"""So many episodes may fail one after another; a planner that never succeeds would go on for ever."""


class PlannedDemos(NamedTuple):
    """What `plan_demos` did.

    Attributes:
        n_demos: episodes in the files.
        n_failures: episodes in which planning or the replay failed; they are not in the files.
    """

    n_demos: int
    n_failures: int


class _Job(NamedTuple):
    task: str
    seed: int
    folder: str


def plan_demos(
    task: str,
    folder: str | Path,
    episodes: int = 100,
    seed: int = 0,
    cloud: PointCloudRecipe | None = None,
    shader: str = "ibl",
    n_processes: int | None = None,
    progress: bool = True,
) -> PlannedDemos:
    """Plan, record and replay demonstrations; called again after an interruption, it goes on where it stopped.

    Written are `trajectory.h5` (planned, `pd_joint_pos`), `trajectory.state.pd_ee_delta_pose.h5` (replayed by
    ManiSkill2 with the controller of the paper, with states), both with their JSON files, and with a recipe
    `pointcloud.h5`, what the cameras see of those states.

    Args:
        task: a key of `difftori_pl.demos.maniskill_experts.EXPERTS`.
        folder: where the files go; finished episodes are kept in a folder in it until all are there.
        episodes: how many successful episodes to record.
        seed: seed of the first episode; episode i starts from the initial state of seed `seed + i`.
        cloud: how point clouds are made; None for states only.
        shader: what colours the points; see `difftori_pl.envs.ManiSkill`.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.

    Raises:
        ConfigurationError: there is no expert for the task, its plans fail again and again, or the folder holds other
            demonstrations.
        DataError: the folder holds demonstrations that cannot be read.
        MissingPackageError: ManiSkill2, mplib or Vulkan is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes is at least 1, but {episodes} came")
    if task not in EXPERTS:
        raise ConfigurationError(f"no motion-planned expert for {task!r}; there is one for {', '.join(EXPERTS)}")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    replayed = folder / f"{REPLAYED}.h5"
    if replayed.exists():
        planned = _planned_before(replayed, task, episodes, seed)
    else:
        planned = PlannedDemos(episodes, _record(task, folder, episodes, seed, n_processes, progress))
    if cloud is not None:
        convert(replayed, folder / CLOUDS, cloud, n_processes, progress, shader=shader)
    return planned


def _planned_before(path: Path, task: str, episodes: int, seed: int) -> PlannedDemos:
    """What is in a replayed file that an earlier call has finished."""
    file = ManiSkillFile(path)
    try:
        meta = file.meta()
    finally:
        file.close()
    info, seeds = meta["env_info"], [episode["episode_seed"] for episode in meta["episodes"]]
    # Files of earlier versions do not note the seed: there, the first episode in the file counts as the first tried.
    first = info.get("first_seed", min(seeds, default=None))
    if (info.get("env_id"), len(seeds), first) != (task, episodes, seed):
        raise ConfigurationError(
            f"{path} exists and is not what was asked for ({len(seeds)} demos of {info.get('env_id')} from seed "
            f"{first} on, but now {episodes} of {task} from seed {seed} on): choose another folder, or delete its "
            "files to plan anew"
        )
    # The last seed that is tried succeeds, as a failure makes another one follow.
    return PlannedDemos(len(seeds), max(seeds) - seed + 1 - len(seeds))


def _record(task: str, folder: Path, episodes: int, seed: int, n_processes: int | None, progress: bool) -> int:
    """Plan and replay all episodes, and put them into one file each; the number of failures."""
    parts = Parts(folder / PLANNED, {"task": task, "seed": seed})
    started, n_failures, in_a_row = episodes, 0, 0

    def one_more(success: bool) -> _Job | None:
        nonlocal started, n_failures, in_a_row
        if success:
            in_a_row = 0
            return None
        n_failures += 1
        in_a_row += 1
        if in_a_row == MAX_FAILURES:
            raise ConfigurationError(
                f"{in_a_row} plans for {task} failed one after another, {n_failures} in all: the planner cannot "
                f"do this task here; what it could do is in {parts.folder}"
            )
        started += 1
        return _Job(task, seed + started - 1, str(parts.folder))

    jobs = [_Job(task, seed + i, str(parts.folder)) for i in range(episodes)]
    with tqdm(total=episodes, unit="demo", desc=f"planning {task}", disable=not progress) as bar:
        for success in run_all(_record_episode, jobs, n_processes, one_more):
            bar.update(success)
            bar.set_postfix(failures=n_failures + (not success))
    seeds = [seed + i for i in range(started) if not parts[f"{seed + i}.failed"].exists()]
    import_maniskill()
    from mani_skill2.trajectory.merge_trajectory import merge_h5

    for name in (PLANNED, REPLAYED):
        with contextlib.redirect_stdout(io.StringIO()):
            merge_h5(str(parts[f"{name}.h5"]), [parts[f"{number}{name.removeprefix(PLANNED)}.h5"] for number in seeds])
    _note(parts[f"{REPLAYED}.json"], task, seed)
    for name in (PLANNED, REPLAYED):
        for ending in ("json", "h5"):
            parts[f"{name}.{ending}"].replace(folder / f"{name}.{ending}")
    parts.remove()
    return n_failures


def _record_episode(job: _Job) -> bool:
    """Plan and replay one episode unless that is done already; whether both succeeded."""
    folder = Path(job.folder)
    failed, replayed = folder / f"{job.seed}.failed", folder / f"{job.seed}{REPLAYED.removeprefix(PLANNED)}.h5"
    if failed.exists():
        return False
    if not (folder / f"{job.seed}.done").exists():
        with warnings.catch_warnings(), _wrappers_forward():
            warnings.simplefilter("ignore")
            success = _plan_episode(job) and _replay_episode(folder / f"{job.seed}.h5", replayed)
        (folder / f"{job.seed}.{'done' if success else 'failed'}").touch()
    return (folder / f"{job.seed}.done").exists()


def _plan_episode(job: _Job) -> bool:
    env = _env(job.task)
    from mani_skill2.utils.wrappers import RecordEpisode

    recorder = RecordEpisode(env, job.folder, trajectory_name=str(job.seed), save_video=False, save_on_reset=False)
    try:
        recorder.reset(seed=job.seed)
        arm = MotionPlanner(recorder)
        try:
            EXPERTS[job.task](env.unwrapped, arm)
        except PlanningError:
            return False
        if not arm.info.get("success", False):
            return False
        recorder.flush_trajectory()
        return True
    finally:
        # Not recorder.close(), which would close the environment of the next episode as well.
        recorder._h5_file.close()


def _replay_episode(planned: Path, replayed: Path) -> bool:
    """Let ManiSkill2's tool turn joint positions into motions of the end effector; whether the task is still solved."""
    from mani_skill2.trajectory import replay_trajectory

    options = ["--traj-path", str(planned), "--save-traj", "-o", "state", "-c", "pd_ee_delta_pose", "--max-retry", "2"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        written = Path(replay_trajectory._main(replay_trajectory.parse_args(options)))
    assert written == replayed, f"ManiSkill2 wrote {written}"
    return bool(json.loads(replayed.with_suffix(".json").read_text())["episodes"])


@cache
def _env(task: str) -> Any:
    """The environment of this process."""
    return make_task(task, "none", "pd_joint_pos", 1000, "trivial")


def _note(path: Path, task: str, seed: int) -> None:
    """Say in which order cameras contribute to a cloud, and which seed was tried first: ManiSkill2's files do not."""
    meta = json.loads(path.read_text())
    meta["env_info"] |= {"cameras": list(_env(task).unwrapped._camera_cfgs), "first_seed": seed}
    path.write_text(json.dumps(meta, indent=2))


@contextmanager
def _wrappers_forward() -> Iterator[None]:
    """Let wrappers pass on attributes of what they wrap, which gymnasium 1.0 dropped and ManiSkill2's tools need."""
    import gymnasium

    def forward(wrapper: Any, name: str) -> Any:
        if name.startswith("__") or name == "env":
            raise AttributeError(name)
        return getattr(wrapper.env, name)

    gymnasium.Wrapper.__getattr__ = forward  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del gymnasium.Wrapper.__getattr__  # type: ignore[attr-defined]
