"""What can be wrong with a robomimic file, each rule once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.faults import (
    Fault,
    Request,
    is_numeric,
    merge,
    not_finite,
    out_of_range,
    unreadable,
    wrong_actions,
)

if TYPE_CHECKING:
    from datamodules.formats.robomimic_file import RobomimicFile


def file_faults(file: RobomimicFile, request: Request) -> Iterator[Fault]:
    """Find what is wrong with the file as a whole.

    Raises:
        DataError: it cannot be opened.
    """
    name = file.path.name
    if not hasattr(file.handle.get("data"), "keys"):
        found = ", ".join(file.handle) or "nothing"
        yield Fault(
            "no_data", name, f"expected a group `data` with the demos, found {found}", "Convert the file first."
        )
        return
    demos = set(file.demos())
    if not demos:
        yield Fault("no_demos", name, "expected demos under `data`, found none", "Record or download some.")
    try:
        file.env_meta()
    except DataError:
        problem = "expected a JSON object in the attribute env_args of `data`, found something else"
        yield Fault("env_args", name, problem, "Write it again or drop it.")
    else:
        if request.task not in (None, file.env_name()):
            problem = f"expected demonstrations of {request.task}, found those of {file.env_name() or 'no task'}"
            advice = "Set data.init_args.task to the file's, or give the path of another file."
            yield Fault("env_id", name, problem, advice)
    yield from _wrong_masks(file, demos)


def _wrong_masks(file: RobomimicFile, demos: set[str]) -> Iterator[Fault]:
    for filter_key in file.filters():
        names = file.handle["mask"][filter_key]
        # h5py gives strings of a fixed length the kind S, and others O.
        if not hasattr(names, "dtype") or names.dtype.kind not in "SO" or names.ndim != 1:
            found = f"{names.dtype} {names.shape}" if hasattr(names, "dtype") else "a group"
            problem = f"expected names of demos, found {found}"
            yield Fault(
                "mask_format",
                f"mask/{filter_key}",
                problem,
                "Write a list of names, e.g. demo_0, as strings.",
                filter_key,
            )
            continue
        absent = [demo for demo in file.filtered(filter_key) if demo not in demos]
        if absent:
            yield Fault(
                "absent_demo",
                f"mask/{filter_key}",
                f"expected names of demos in the file, found {absent[0]}, which is absent",
                "Remove the name from the mask, or use the file the mask was made for.",
                filter_key,
                len(absent) - 1,
            )


class Wanted(NamedTuple):
    """What a request means for some demos, by the paths of arrays in a demo's group.

    Attributes:
        vectors: arrays of numbers, "actions" first.
        images: arrays of images.
        action_dim: size of an action; None if no demo has actions.
    """

    vectors: list[str]
    images: list[str]
    action_dim: int | None


def wanted(file: RobomimicFile, demos: Sequence[str], request: Request) -> Wanted:
    """Fill in what a request leaves open: every array of numbers that any of the demos has."""
    arrays: dict[str, Any] = {}
    for demo in demos:
        arrays = {name: item for name, item in file.arrays(demo).items() if is_numeric(item)} | arrays
    groups = {name.split("/")[0] for name in arrays}
    has_next = "next_obs" in groups if request.next_obs is None else request.next_obs
    has_rewards = not groups.isdisjoint({"rewards", "dones"}) if request.rewards is None else request.rewards
    vectors, images = ["actions"], []
    for prefix in ("obs/", "next_obs/") if has_next else ("obs/",):
        stored = [name for name in arrays if name.startswith(prefix)]
        pictures = [name for name in stored if _looks_like_images(name, arrays[name])]
        others = [name for name in stored if name not in pictures]
        vectors += others if request.obs_keys is None else [prefix + key for key in request.obs_keys]
        images += pictures if request.image_keys is None else [prefix + key for key in request.image_keys]
    vectors += ["rewards", "dones"] if has_rewards else []
    actions = arrays.get("actions")
    action_dim = actions.shape[1] if actions is not None and actions.ndim == 2 else None
    return Wanted(vectors, images, action_dim if request.action_dim is None else request.action_dim)


def demo_faults(file: RobomimicFile, demos: Sequence[str], request: Request) -> list[Fault]:
    """Find what is wrong with these demos; equal faults of several demos are reported once and counted."""
    asked = wanted(file, demos, request)
    shapes: dict[str, tuple[int, ...]] = {}
    return merge(fault for demo in demos for fault in _wrong(file, demo, asked, shapes))


def _looks_like_images(key: str, array: Any) -> bool:
    return array.ndim == 4 and (array.dtype == np.uint8 or key.endswith("_image"))


def _wrong(file: RobomimicFile, demo: str, asked: Wanted, shapes: dict[str, tuple[int, ...]]) -> Iterator[Fault]:
    """Find what is wrong with a demo; `shapes` holds the shape of a step of each array, from the first demo on."""
    arrays = file.arrays(demo)
    yield from _missing(demo, arrays, asked)
    if "actions" not in arrays:
        return
    fault = wrong_actions(demo, arrays["actions"], asked.action_dim)
    if fault is not None:
        yield fault
        return
    n_steps = len(arrays["actions"])
    if n_steps == 0:
        yield Fault("empty_demo", demo, "expected at least one step, found none", "Remove the demo.")
        return
    declared = file.handle["data"][demo].attrs.get("num_samples", n_steps)
    if not np.array_equal(declared, n_steps):
        yield Fault(
            "num_samples",
            demo,
            f"expected num_samples to be the number of actions, {n_steps}, found {declared}",
            "The recording was cut short or edited: correct the attribute, or remove the demo.",
        )
    for name in (*asked.vectors, *asked.images):
        if name not in arrays:
            continue
        wrong_format = _wrong_image if name in asked.images else _wrong_low_dim
        fault = wrong_format(demo, name, arrays[name])
        fault = fault or _wrong_shape(demo, name, arrays[name].shape, n_steps, shapes)
        if fault is None and name not in asked.images:
            fault = _wrong_values(file, demo, name)
        if fault is not None:
            yield fault


def _missing(demo: str, arrays: dict[str, Any], asked: Wanted) -> Iterator[Fault]:
    groups = {name.split("/")[0] for name in arrays if "/" in name}
    if "actions" not in arrays:
        yield Fault("no_actions", demo, "expected an array `actions`, found none", "Remove the demo.")
    if "obs" not in groups:
        yield Fault(
            "no_obs",
            demo,
            "expected observations (`obs`), found a raw recording without them",
            "Add them with `python -m robomimic.scripts.dataset_states_to_obs`, or record with observations.",
        )
    elif "next_obs" not in groups and any(name.startswith("next_obs/") for name in asked.vectors + asked.images):
        yield Fault(
            "no_next_obs",
            demo,
            "expected `next_obs`, found none",
            "Write the file again with next observations, or do not ask for them (load_next_obs: false).",
        )
    for name in (*asked.vectors, *asked.images):
        prefix, _, key = name.partition("/")
        if name in arrays or name == "actions" or (key and prefix not in groups):
            continue
        if key:
            found = [other.removeprefix(f"{prefix}/") for other in arrays if other.startswith(f"{prefix}/")]
            yield Fault(
                "missing_key",
                demo,
                f"expected the observation {key!r} in `{prefix}`, found {', '.join(found)}",
                "Name one of these, or add the missing one (`difftori data render` adds images).",
                name,
            )
        else:
            yield Fault(
                f"no_{name}",
                demo,
                f"expected `{name}`, found none",
                "They are never taken as zero: write them, or do not ask for them (load_rewards: false).",
            )


def _wrong_image(demo: str, name: str, array: Any) -> Fault | None:
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3:
        return None
    if array.ndim != 4:
        advice = "Name the key among obs_keys, not image_keys."
    elif array.shape[1] == 3:
        advice = "The channels come first: write the images again with the channels last."
    else:
        advice = "Render the images again, or write them in that format."
    problem = f"expected {name} to be uint8 images (steps, height, width, 3), found {array.dtype} {array.shape}"
    return Fault("image_format", demo, problem, advice, name)


def _wrong_low_dim(demo: str, name: str, array: Any) -> Fault | None:
    if is_numeric(array) and array.ndim == 4 and array.dtype == np.uint8:
        if array.shape[-1] == 3:
            advice = "Name it among image_keys."
        else:
            advice = "Write them again as (steps, height, width, 3), and name the key among image_keys."
        problem = f"expected vectors in {name}, found images {array.shape}"
        return Fault("image_as_low_dim", demo, problem, advice, name)
    is_scalar = name in ("rewards", "dones")
    if is_numeric(array) and (array.ndim == 1 if is_scalar else array.ndim >= 2):
        return None
    wanted = "(steps,)" if is_scalar else "(steps, size)"
    problem = f"expected {name} to be numbers {wanted}, found {array.dtype} {array.shape}"
    return Fault("array_format", demo, problem, "Write it again in that shape.", name)


def _wrong_shape(
    demo: str, name: str, shape: tuple[int, ...], n_steps: int, shapes: dict[str, tuple[int, ...]]
) -> Fault | None:
    # Some recorders also store the observation after the last action.
    if shape[0] != n_steps and not (name.startswith("obs/") and shape[0] == n_steps + 1):
        problem = f"expected {n_steps} steps in {name}, as in actions, found {shape[0]}"
        return Fault("length", demo, problem, "The recording was cut short: remove the demo, or record it again.", name)
    expected = shapes.setdefault(name, shape[1:])
    if shape[1:] == expected:
        return None
    problem = f"expected {name} of shape {expected} at each step, as in the first demo, found {shape[1:]}"
    return Fault("shape", demo, problem, "Do not mix recordings of different set-ups in one file.", name)


def _wrong_values(file: RobomimicFile, demo: str, name: str) -> Fault | None:
    try:
        values = file.read(demo, name)
    except DataError as error:
        return unreadable(file.path, name, error)
    fault = not_finite(demo, name, values)
    if fault is None and name == "actions":
        advice = (
            "Absolute actions or those of another controller: use the controller's normalised input, or scale the "
            "actions by their range before training."
        )
        fault = out_of_range(demo, values, -1.0, 1.0, "actions in [-1, 1]", advice)
    return fault
