"""`difftori data`: check, convert and render demonstration files."""

import sys
from collections.abc import Sequence
from pathlib import Path

from datamodules.point_cloud import PointCloudRecipe
from difftori_pl.commands.output import say


def check_data(path: Path) -> None:
    """Report all faults of a file with exit code 1, or summarise the file if it has none.

    Args:
        path: a robomimic or ManiSkill HDF5 file, the zarr folder of Push-T, or the folder of a LeRobot data set.
    """
    from datamodules.formats.checks import check, summary
    from datamodules.formats.damage import advice_on_check_sums

    faults = check(path)
    if faults:
        sys.exit("\n".join([*map(str, faults), f"{len(faults)} kinds of fault in {path}"]))
    facts = summary(path)
    size = f"{facts.n_demos} demos, {facts.n_steps} steps ({facts.shortest} to {facts.longest} each)"
    say(f"{path}: no faults. {facts.content}, {size}")
    for name, shape in sorted(facts.shapes.items()):
        say(f"  {name} {shape}")
    say(f"  actions from {min(facts.action_min):.3g} to {max(facts.action_max):.3g}")
    for name, count in facts.filters.items():
        say(f"  filter {name}: {count} demos")
    if advice := advice_on_check_sums(path):
        say(advice)


def sum_data(path: Path) -> None:
    """Write the check sums of a demonstration file to a file in the same folder; every run verifies them.

    Args:
        path: a robomimic or ManiSkill HDF5 file, the zarr folder of Push-T, or the folder of a LeRobot data set.
    """
    from datamodules.formats.damage import write_check_sums

    say(str(write_check_sums(path)))


def render_data(
    path: Path,
    output: Path | None = None,
    cameras: Sequence[str] = ("agentview", "robot0_eye_in_hand"),
    size: int = 84,
    shadows: bool = True,
    multisampling: bool = True,
    reflections: bool = True,
    n_processes: int | None = None,
    n_demos: int | None = None,
) -> None:
    """Copy a robomimic file and add camera images rendered from its states; repeat an interrupted call to resume it.

    Args:
        path: an HDF5 file with `states`.
        output: the file to write; <path>_image.hdf5 if not given.
        cameras: robosuite's names of the cameras.
        size: height and width of the images, in pixels.
        shadows: render shadows, as in the published files.
        multisampling: smooth edges, as in the published files; half of the cost of software rendering.
        reflections: render reflections, as in the published files; half of the remaining cost.
        n_processes: number of worker processes; as many as cores if not given.
        n_demos: number of demos to copy and render, from the first; all if not given.
    """
    from datamodules.formats.damage import write_check_sums
    from difftori_pl.demos import render

    target = output or path.with_name(f"{path.stem}_image.hdf5")
    rendering = render(
        path,
        target,
        cameras,
        size,
        shadows,
        multisampling,
        n_processes=n_processes,
        reflections=reflections,
        n_demos=n_demos,
    )
    write_check_sums(target)
    say(f"{target}: {rendering.n_frames} images, {rendering.frames_per_second:.0f} per second")


def absolute_data(path: Path, output: Path | None = None, n_processes: int | None = None) -> None:
    """Copy a robomimic file and replace the displacements in its actions by absolute poses, found in the simulator.

    Args:
        path: an HDF5 file with `states`, recorded with robosuite's OSC_POSE controller.
        output: the file to write; <path>_abs.hdf5 if not given.
        n_processes: number of worker processes; as many as cores if not given.
    """
    from datamodules.formats.damage import write_check_sums
    from difftori_pl.demos.absolute import to_absolute

    target = output or path.with_name(f"{path.stem}_abs.hdf5")
    n_demos = to_absolute(path, target, n_processes)
    write_check_sums(target)
    say(f"{target}: {n_demos} demos with absolute actions")


def convert_data(
    path: Path,
    output: Path | None = None,
    cloud: PointCloudRecipe = PointCloudRecipe(),  # noqa: B008  (immutable)
    n_demos: int | None = None,
    shader: str = "ibl",
    n_processes: int | None = None,
) -> None:
    """Reduce ManiSkill's point clouds to the size for training, or render them from states.

    Repeat an interrupted call to resume it.

    Args:
        path: ManiSkill's HDF5 file; its JSON file is in the same folder.
        output: the file to write; <path>.converted.h5 if not given.
        cloud: how to reduce the clouds; the same as data.init_args.cloud.
        n_demos: number of demos to convert, from the first; all if not given.
        shader: shader for the colours of rendered points: ibl, or trivial, which is faster in software.
        n_processes: number of worker processes; as many as cores if not given.
    """
    from datamodules.formats.damage import write_check_sums
    from difftori_pl.demos.convert import convert, plan

    target = output or path.with_suffix(".converted.h5")
    todo = plan(path, cloud, n_demos)
    left_out = f" ({todo.n_left_out} failed or empty demos are dropped)" if todo.n_left_out else ""
    say(f"{len(todo.demos)} demos{left_out}, {todo.n_steps} steps: at most {todo.max_bytes / 1e6:.0f} MB")
    size = convert(path, target, cloud, n_processes, n_demos=n_demos, shader=shader)
    write_check_sums(target)
    say(f"{target}: {size / 1e6:.0f} MB")
