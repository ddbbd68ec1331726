"""Camera observations for a robomimic file that has none, rendered from its stored states."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import h5py
import numpy as np
from tqdm import tqdm

from datamodules.formats.damage import clear_errors
from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.envs.robosuite import IMAGE_KEYS, Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAMERAS = tuple(key.removesuffix("_image") for key in IMAGE_KEYS)

_MEMORY = 10
"""The fingers' controller gets from one end of its range to the other in 8 environment steps."""


class Rendering(NamedTuple):
    """What `render` did.

    Attributes:
        n_frames: pictures rendered in this call.
        frames_per_second: of wall time, all processes together.
    """

    n_frames: int
    frames_per_second: float


class _Look(NamedTuple):
    """How the pictures are to be; `size` in pixels."""

    cameras: tuple[str, ...]
    size: int
    shadows: bool
    multisampling: bool
    reflections: bool


class _Job(NamedTuple):
    source: str
    demo: str
    look: _Look
    part: str


def render(
    path: str | Path,
    output: str | Path,
    cameras: Sequence[str] = CAMERAS,
    size: int = 84,
    shadows: bool = True,
    multisampling: bool = True,
    n_processes: int | None = None,
    progress: bool = True,
    reflections: bool = True,
    n_demos: int | None = None,
) -> Rendering:
    """Copy a robomimic file and add what cameras saw; called again after an interruption, it goes on where it stopped.

    Images are those that `Robosuite` gives for the same state and the same `shadows`, `multisampling` and
    `reflections`: evaluate with those that the training data have. The image after the last action, whose state no
    file holds, is rendered after playing it.

    Args:
        path: an HDF5 file with `states`.
        output: the file to write; finished demos are kept in a folder beside it until all are there.
        cameras: robosuite's names of the cameras; the images are called `<camera>_image`.
        size: height and width of the images, in pixels.
        shadows: render shadows.
        multisampling: smooth edges; without it software rendering takes half as long.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.
        reflections: mirror the scene in shiny surfaces; without it software rendering takes half as long.
        n_demos: render the first so many demos and leave the others out of `output`; all if None.

    Raises:
        DataError: the file is missing or damaged.
        ConfigurationError: the file has no states or no `env_args`, or there is no such camera, or `output` exists.
        MissingPackageError: robosuite, or a system library for rendering, is not installed.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    if output.exists():
        raise ConfigurationError(f"{output} exists: choose another name, or delete it to render it anew")
    look = _Look(tuple(cameras), size, shadows, multisampling, reflections)
    n_states = _count_states(path, n_demos)
    stamp = path.stat()
    parts = Parts(output, {"source": str(path.resolve()), "changed": stamp.st_mtime_ns, **look._asdict()})
    waiting = [demo for demo in n_states if not parts[f"{demo}.hdf5"].exists()]
    # The longest first, so that at the end no process is left alone with one of them.
    waiting.sort(key=lambda demo: -n_states[demo])
    jobs = [_Job(str(path), demo, look, str(parts[f"{demo}.hdf5"])) for demo in waiting]
    start, n_frames = time.monotonic(), 0
    total = len(look.cameras) * sum(n + 1 for n in n_states.values())
    done = total - len(look.cameras) * sum(n_states[demo] + 1 for demo in waiting)
    with tqdm(total=total, initial=done, unit="frame", desc="rendering", disable=not progress) as bar:
        for count in run_all(_render_demo, jobs, n_processes):
            n_frames += count
            bar.update(count)
    seconds = time.monotonic() - start
    with whole_file(output) as draft:
        _merge(path, {demo: parts[f"{demo}.hdf5"] for demo in n_states}, draft, look)
    parts.remove()
    return Rendering(n_frames, n_frames / max(seconds, 1e-9))


def _count_states(path: Path, n_demos: int | None) -> dict[str, int]:
    """The number of states of each demo, or of the first `n_demos`."""
    file = RobomimicFile(path)
    try:
        with clear_errors(path):
            if not file.env_meta():
                raise ConfigurationError(f"{path} has no attribute env_args of the group `data`, which names the task")
            demos = {name: file.arrays(name) for name in file.demos()[:n_demos]}
            without = [name for name, arrays in demos.items() if not {"states", "actions"} <= arrays.keys()]
            if without:
                raise ConfigurationError(
                    f"{path} has no states and actions in {', '.join(without)}; nothing to render from"
                )
            return {name: len(arrays["states"]) for name, arrays in demos.items()}
    finally:
        file.close()


def _render_demo(job: _Job) -> int:
    """Render and keep one demo; the number of pictures."""
    with h5py.File(job.source, "r") as file:
        demo = file["data"][job.demo]
        env = _env(file["data"].attrs["env_args"], job.look)
        states, actions = demo["states"][()], demo["actions"][()]
        model_file = demo.attrs.get("model_file")
    frames = [env.set_state(state, model_file) for state in states]
    # The fingers' controller remembers its last few commands, which no state holds.
    for action in actions[-_MEMORY:-1]:
        env.robosuite.step(action)
    env.set_state(states[-1], model_file)
    frames.append(env.step(actions[-1])[0])
    with whole_file(Path(job.part)) as draft, h5py.File(draft, "w") as file:
        for key in env.image_keys:
            # (T + 1, 3, H, W) to robomimic's (T + 1, H, W, 3).
            images = np.stack([frame[key] for frame in frames]).transpose(0, 2, 3, 1)
            _write_images(file, f"obs/{key}", images[:-1])
            _write_images(file, f"next_obs/{key}", images[1:])
    return len(frames) * len(env.image_keys)


@cache
def _env(env_args: str, look: _Look) -> RobosuiteEnv:
    """The environment of this process; it observes nothing but images."""
    image_keys = [f"{camera}_image" for camera in look.cameras]
    recipe = Robosuite.from_env_args(
        json.loads(env_args),
        (),
        image_keys,
        look.size,
        shadows=look.shadows,
        multisampling=look.multisampling,
        reflections=look.reflections,
    )
    env = recipe()
    env.reset(seed=0)
    return env


def _write_images(file: h5py.File, name: str, images: NDArray[np.uint8]) -> None:
    # A chunk per image: training reads windows that begin anywhere.
    file.create_dataset(name, data=images, chunks=(1, *images.shape[1:]), compression="gzip", compression_opts=4)


def _merge(source: Path, parts: dict[str, Path], path: Path, look: _Look) -> None:
    """Copy the demos that have parts, and put the pictures beside their other observations."""
    with h5py.File(source, "r") as old, h5py.File(path, "w") as new:
        new.create_group("data").attrs.update(old["data"].attrs)
        for name in parts:
            old.copy(f"data/{name}", new["data"])
        for name, members in old.get("mask", {}).items():
            kept = [member for member in members[()] if member.decode() in parts]
            new.create_dataset(f"mask/{name}", data=np.array(kept, dtype=members.dtype))
        new["data"].attrs["total"] = sum(len(demo["actions"]) for demo in new["data"].values())
        for demo, part in parts.items():
            with h5py.File(part, "r") as rendered:
                for group in ("obs", "next_obs"):
                    observations = new["data"][demo].require_group(group)
                    for key in rendered[group]:
                        if key in observations:
                            del observations[key]
                        rendered.copy(f"{group}/{key}", observations)
        attributes = new["data"].attrs
        env_args = json.loads(attributes["env_args"])
        env_args["env_kwargs"] |= {
            "has_offscreen_renderer": True,
            "use_camera_obs": True,
            "camera_names": list(look.cameras),
            "camera_heights": look.size,
            "camera_widths": look.size,
        }
        attributes["env_args"] = json.dumps(env_args, indent=4)
        attributes["rendering"] = json.dumps(look._asdict())
