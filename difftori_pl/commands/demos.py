"""`difftori demos`: record demonstrations of scripted and motion-planned experts."""

from pathlib import Path
from typing import TYPE_CHECKING

from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.commands.output import say
from difftori_pl.envs import DepthCloud

if TYPE_CHECKING:
    from difftori_pl.demos import Player


def record_square(
    episodes: int = 100, output: Path = Path("demos/square.hdf5"), seed: int = 0, n_processes: int | None = None
) -> None:
    """Record a scripted expert on Square, in robomimic's format; an interrupted recording is resumed.

    Args:
        episodes: number of successful episodes to record.
        output: the file to write.
        seed: seed of the first episode; it fixes the initial state.
        n_processes: number of worker processes; all cores if not given.
    """
    from difftori_pl.demos import RobosuitePlayer

    _record(RobosuitePlayer("square"), output, episodes, seed, n_processes)


def record_lift(
    episodes: int = 100, output: Path = Path("demos/lift.hdf5"), seed: int = 0, n_processes: int | None = None
) -> None:
    """Record a scripted expert on Lift, in robomimic's format; an interrupted recording is resumed.

    Args:
        episodes: number of successful episodes to record.
        output: the file to write.
        seed: seed of the first episode; it fixes the initial state.
        n_processes: number of worker processes; all cores if not given.
    """
    from difftori_pl.demos import RobosuitePlayer

    _record(RobosuitePlayer("lift"), output, episodes, seed, n_processes)


def plan_maniskill(
    task: str = "PickCube-v0",
    episodes: int = 100,
    output: Path | None = None,
    cloud: PointCloudRecipe | None = PointCloudRecipe(n_goal_points=50),  # noqa: B008  (immutable)
    shader: str = "ibl",
    seed: int = 0,
    n_processes: int | None = None,
) -> None:
    """Plan demonstrations of a ManiSkill2 task, convert them to pd_ee_delta_pose, and render point clouds.

    Args:
        task: PickCube-v0, LiftCube-v0, StackCube-v0 or PegInsertionSide-v0.
        episodes: number of successful episodes to record.
        output: the folder to write to; demos/<task> if not given.
        cloud: settings of the point clouds, the same as data.init_args.cloud; null for states only.
        shader: shader that colours the points: ibl, or trivial, which is faster in software.
        seed: seed of the first episode; it fixes the initial state.
        n_processes: number of worker processes; all cores if not given.
    """
    from datamodules.formats.damage import write_check_sums
    from difftori_pl.demos.maniskill import plan_demos

    folder = output or Path("demos") / task
    found = plan_demos(task, folder, episodes, seed, cloud, shader, n_processes)
    for file in folder.glob("*.h5"):
        write_check_sums(file)
    say(f"{folder}: {found.n_demos} demos; {found.n_failures} of {found.n_demos + found.n_failures} failed")


def record_metaworld(
    task: str = "reach-v3",
    episodes: int = 50,
    output: Path | None = None,
    cloud: DepthCloud | None = DepthCloud(),  # noqa: B008  (immutable)
    seed: int = 0,
    n_processes: int | None = None,
) -> None:
    """Record Meta-World's scripted expert, in robomimic's format; an interrupted recording is resumed.

    Args:
        task: Meta-World's name of the task.
        episodes: number of successful episodes to record.
        output: the file to write; demos/metaworld/<task>.hdf5 if not given.
        cloud: settings of the point clouds, the same as rollout.env.init_args.cloud; null disables rendering.
        seed: seed of the first episode; it fixes the initial state.
        n_processes: number of worker processes; all cores if not given.
    """
    from difftori_pl.demos import MetaWorldPlayer

    path = output or Path("demos") / "metaworld" / f"{task}.hdf5"
    _record(MetaWorldPlayer(task, cloud), path, episodes, seed, n_processes)


def _record(player: "Player", path: Path, episodes: int, seed: int, n_processes: int | None) -> None:
    from datamodules.formats.damage import write_check_sums
    from difftori_pl.demos import record

    path.parent.mkdir(parents=True, exist_ok=True)
    recording = record(player, path, episodes, seed, n_processes)
    write_check_sums(path)
    n_tried = recording.n_demos + recording.n_failures
    say(f"{path}: {recording.n_demos} demos, {recording.n_steps} steps; {recording.n_failures} of {n_tried} failed")
