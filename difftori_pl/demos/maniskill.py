"""Motion-planned demonstrations of ManiSkill2 tasks, written by ManiSkill2's recorder and replay tool."""

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
"""Number of consecutive failures that aborts the recording, which would otherwise never end."""


class PlannedDemos(NamedTuple):
    """Result of `plan_demos`.

    Attributes:
        n_demos: number of episodes in the files.
        n_failures: number of episodes in which planning or replay failed; they are not in the files.
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
    """Plan, record and replay demonstrations; an interrupted call is resumed.

    This writes `trajectory.h5` (planned, `pd_joint_pos`) and `trajectory.state.pd_ee_delta_pose.h5` (replayed by
    ManiSkill2 with the controller of the paper, with states), both with their JSON files. If `cloud` is given, it also
    writes `pointcloud.h5`, the point clouds rendered from those states.

    Args:
        task: a key of `difftori_pl.demos.maniskill_experts.EXPERTS`.
        folder: folder of the files; a subfolder holds finished episodes until all are recorded.
        episodes: number of successful episodes to record.
        seed: seed of the first episode; episode i starts from the initial state of seed `seed + i`.
        cloud: settings of the point clouds; None for states only.
        shader: shader that colours the points; see `difftori_pl.envs.ManiSkill`.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.

    Raises:
        ConfigurationError: there is no expert for the task, too many consecutive plans fail, or the folder has other
            demonstrations.
        DataError: the folder has demonstrations that cannot be read.
        MissingPackageError: ManiSkill2, mplib or Vulkan is not installed.
    """
    if episodes < 1:
        raise ConfigurationError(f"episodes must be at least 1, got {episodes}")
    if task not in EXPERTS:
        raise ConfigurationError(f"there is no motion-planned expert for {task!r}; choose one of {', '.join(EXPERTS)}")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    replayed = folder / f"{REPLAYED}.h5"
    if replayed.exists():
        planned = _check_existing(replayed, task, episodes, seed)
    else:
        planned = PlannedDemos(episodes, _record(task, folder, episodes, seed, n_processes, progress))
    if cloud is not None:
        convert(replayed, folder / CLOUDS, cloud, n_processes, progress, shader=shader)
    return planned


def _check_existing(path: Path, task: str, episodes: int, seed: int) -> PlannedDemos:
    """Count the demonstrations of a finished file, after checking that they are the requested ones."""
    file = ManiSkillFile(path)
    try:
        meta = file.meta()
    finally:
        file.close()
    info, seeds = meta["env_info"], [episode["episode_seed"] for episode in meta["episodes"]]
    # Files of earlier versions do not store the first seed: use that of the first episode in the file.
    first = info.get("first_seed", min(seeds, default=None))
    if (info.get("env_id"), len(seeds), first) != (task, episodes, seed):
        raise ConfigurationError(
            f"{path} exists with other demos: expected {episodes} of {task} from seed {seed}, got {len(seeds)} of "
            f"{info.get('env_id')} from seed {first}. Choose another folder, or delete its files to plan again"
        )
    # The last seed that was tried succeeded, because every failure adds another seed.
    return PlannedDemos(len(seeds), max(seeds) - seed + 1 - len(seeds))


def _record(task: str, folder: Path, episodes: int, seed: int, n_processes: int | None, progress: bool) -> int:
    """Plan and replay all episodes, merge them into one file each, and return the number of failures."""
    parts = Parts(folder / PLANNED, {"task": task, "seed": seed})
    n_started, n_failures, n_consecutive = episodes, 0, 0

    def replace_failure(success: bool) -> _Job | None:
        nonlocal n_started, n_failures, n_consecutive
        if success:
            n_consecutive = 0
            return None
        n_failures += 1
        n_consecutive += 1
        if n_consecutive == MAX_FAILURES:
            raise ConfigurationError(
                f"{n_consecutive} consecutive plans for {task} failed, {n_failures} in total: the planner cannot solve "
                f"this task here. Finished episodes are in {parts.folder}"
            )
        n_started += 1
        return _Job(task, seed + n_started - 1, str(parts.folder))

    jobs = [_Job(task, seed + i, str(parts.folder)) for i in range(episodes)]
    with tqdm(total=episodes, unit="demo", desc=f"planning {task}", disable=not progress) as bar:
        for success in run_all(_record_episode, jobs, n_processes, replace_failure):
            bar.update(success)
            bar.set_postfix(failures=n_failures + (not success))
    seeds = [seed + i for i in range(n_started) if not parts[f"{seed + i}.failed"].exists()]
    import_maniskill()
    from mani_skill2.trajectory.merge_trajectory import merge_h5

    for name in (PLANNED, REPLAYED):
        with contextlib.redirect_stdout(io.StringIO()):
            merge_h5(str(parts[f"{name}.h5"]), [parts[f"{number}{name.removeprefix(PLANNED)}.h5"] for number in seeds])
    _add_env_info(parts[f"{REPLAYED}.json"], task, seed)
    for name in (PLANNED, REPLAYED):
        for ending in ("json", "h5"):
            parts[f"{name}.{ending}"].replace(folder / f"{name}.{ending}")
    parts.remove()
    return n_failures


def _record_episode(job: _Job) -> bool:
    """Plan and replay one episode unless it is finished, and return whether both succeeded."""
    folder = Path(job.folder)
    failed, replayed = folder / f"{job.seed}.failed", folder / f"{job.seed}{REPLAYED.removeprefix(PLANNED)}.h5"
    if failed.exists():
        return False
    if not (folder / f"{job.seed}.done").exists():
        with warnings.catch_warnings(), _forwarding_wrappers():
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
        # Not recorder.close(): it would also close the environment, which is reused by later episodes.
        recorder._h5_file.close()


def _replay_episode(planned: Path, replayed: Path) -> bool:
    """Convert joint positions to end-effector actions by ManiSkill2's tool, and return whether the task is solved."""
    from mani_skill2.trajectory import replay_trajectory

    options = ["--traj-path", str(planned), "--save-traj", "-o", "state", "-c", "pd_ee_delta_pose", "--max-retry", "2"]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        written = Path(replay_trajectory._main(replay_trajectory.parse_args(options)))
    assert written == replayed, f"ManiSkill2 wrote {written}"
    return bool(json.loads(replayed.with_suffix(".json").read_text())["episodes"])


@cache
def _env(task: str) -> Any:
    """Build the environment, once per process."""
    return make_task(task, "none", "pd_joint_pos", 1000, "trivial")


def _add_env_info(path: Path, task: str, seed: int) -> None:
    """Store the order of the cameras in a cloud and the first seed, which ManiSkill2's files do not have."""
    meta = json.loads(path.read_text())
    meta["env_info"] |= {"cameras": list(_env(task).unwrapped._camera_cfgs), "first_seed": seed}
    path.write_text(json.dumps(meta, indent=2))


@contextmanager
def _forwarding_wrappers() -> Iterator[None]:
    """Let gymnasium's wrappers look up unknown attributes in the environment that they wrap.

    ManiSkill2's tools rely on this lookup, which gymnasium 1.0 removed. This context adds `__getattr__`, which Python
    calls only for attributes that the wrapper itself lacks, to `gymnasium.Wrapper` and removes it afterwards.
    """
    import gymnasium

    def get_from_wrapped(wrapper: Any, name: str) -> Any:
        # Special methods are never forwarded. `env` is missing until the wrapper is initialised, and looking it up
        # here would not terminate.
        if name.startswith("__") or name == "env":
            raise AttributeError(name)
        return getattr(wrapper.env, name)

    gymnasium.Wrapper.__getattr__ = get_from_wrapped  # type: ignore[attr-defined]
    try:
        yield
    finally:
        del gymnasium.Wrapper.__getattr__  # type: ignore[attr-defined]
