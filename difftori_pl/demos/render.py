"""Rendering of camera observations from the stored states of a robomimic file."""

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

from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.demos.parallel import Parts, run_all, whole_file
from difftori_pl.envs.robosuite import IMAGE_KEYS, Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CAMERAS = tuple(key.removesuffix("_image") for key in IMAGE_KEYS)

_MEMORY = 10
"""Actions replayed to restore the gripper controller, which crosses its range in 8 environment steps."""


class Rendering(NamedTuple):
    """Result of `render`.

    Attributes:
        n_frames: number of images rendered in this call.
        frames_per_second: images per second of wall time, over all processes.
    """

    n_frames: int
    frames_per_second: float


class _RenderSettings(NamedTuple):
    """Settings of the rendered images; `size` in pixels."""

    cameras: tuple[str, ...]
    size: int
    shadows: bool
    multisampling: bool
    reflections: bool


class _Job(NamedTuple):
    source: str
    demo: str
    settings: _RenderSettings
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
    """Copy a robomimic file and add rendered camera images; an interrupted call is resumed.

    The images equal those of `Robosuite` for the same state and the same `shadows`, `multisampling` and `reflections`;
    evaluate with the settings of the training data. The file does not store the state after the last action, so the
    last image is rendered after simulating that action.

    Args:
        path: an HDF5 file with `states`.
        output: the file to write; `<output>.parts` holds finished demos until all are rendered.
        cameras: robosuite's names of the cameras; the images are named `<camera>_image`.
        size: height and width of the images, in pixels.
        shadows: render shadows.
        multisampling: antialias edges; doubles the time of software rendering.
        n_processes: number of worker processes; all cores if None.
        progress: show a progress bar.
        reflections: render reflections; doubles the time of software rendering.
        n_demos: number of demos to render, from the first; `output` omits the others. All if None.

    Raises:
        DataError: the file is missing or damaged.
        ConfigurationError: the file has no states or no `env_args`, a camera does not exist, or `output` exists.
        MissingPackageError: robosuite, or a system library for rendering, is not installed.
    """
    path, output = Path(path).expanduser(), Path(output).expanduser()
    if output.exists():
        raise ConfigurationError(f"{output} exists: choose another name, or delete it to render again")
    settings = _RenderSettings(tuple(cameras), size, shadows, multisampling, reflections)
    n_states = _count_states(path, n_demos)
    stamp = path.stat()
    parts = Parts(output, {"source": str(path.resolve()), "changed": stamp.st_mtime_ns, **settings._asdict()})
    waiting = [demo for demo in n_states if not parts[f"{demo}.hdf5"].exists()]
    # The longest first, so that no process ends with a long demo while the others are idle.
    waiting.sort(key=lambda demo: -n_states[demo])
    jobs = [_Job(str(path), demo, settings, str(parts[f"{demo}.hdf5"])) for demo in waiting]
    start, n_frames = time.monotonic(), 0
    total = len(settings.cameras) * sum(n + 1 for n in n_states.values())
    done = total - len(settings.cameras) * sum(n_states[demo] + 1 for demo in waiting)
    with tqdm(total=total, initial=done, unit="frame", desc="rendering", disable=not progress) as bar:
        for count in run_all(_render_demo, jobs, n_processes):
            n_frames += count
            bar.update(count)
    seconds = time.monotonic() - start
    with whole_file(output) as draft:
        _merge(path, {demo: parts[f"{demo}.hdf5"] for demo in n_states}, draft, settings)
    parts.remove()
    return Rendering(n_frames, n_frames / max(seconds, 1e-9))


def _count_states(path: Path, n_demos: int | None) -> dict[str, int]:
    """Count the states of each demo, or of the first `n_demos`."""
    file = RobomimicFile(path)
    try:
        with file.clear_errors():
            if not file.env_meta():
                raise ConfigurationError(
                    f"the group `data` of {path} must have the attribute env_args, which names the task"
                )
            demos = {name: file.arrays(name) for name in file.demos()[:n_demos]}
            without = [name for name, arrays in demos.items() if not {"states", "actions"} <= arrays.keys()]
            if without:
                raise ConfigurationError(
                    f"{path} must have states and actions in every demo, missing in {', '.join(without)}"
                )
            return {name: len(arrays["states"]) for name, arrays in demos.items()}
    finally:
        file.close()


def _render_demo(job: _Job) -> int:
    """Render one demo, write it to its part, and return the number of images."""
    with h5py.File(job.source, "r") as file:
        demo = file["data"][job.demo]
        env = _env(file["data"].attrs["env_args"], job.settings)
        states, actions = demo["states"][()], demo["actions"][()]
        model_file = demo.attrs.get("model_file")
    frames = [env.set_state(state, model_file) for state in states]
    # The gripper controller depends on the last few commands, which the state does not include.
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
def _env(env_args: str, settings: _RenderSettings) -> RobosuiteEnv:
    """Build the environment, which observes only images, once per process."""
    image_keys = [f"{camera}_image" for camera in settings.cameras]
    recipe = Robosuite.from_env_args(
        json.loads(env_args),
        (),
        image_keys,
        settings.size,
        shadows=settings.shadows,
        multisampling=settings.multisampling,
        reflections=settings.reflections,
    )
    env = recipe()
    env.reset(seed=0)
    return env


def _write_images(file: h5py.File, name: str, images: NDArray[np.uint8]) -> None:
    # One chunk per image, because training reads windows that begin at any step.
    file.create_dataset(name, data=images, chunks=(1, *images.shape[1:]), compression="gzip", compression_opts=4)


def _merge(source: Path, parts: dict[str, Path], path: Path, settings: _RenderSettings) -> None:
    """Copy the demos that have parts, and add the images to their observations."""
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
            "camera_names": list(settings.cameras),
            "camera_heights": settings.size,
            "camera_widths": settings.size,
        }
        attributes["env_args"] = json.dumps(env_args, indent=4)
        attributes["rendering"] = json.dumps(settings._asdict())
