"""Faults of robomimic files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.array_faults import wrong_image, wrong_low_dim, wrong_shape
from datamodules.formats.demo_file import DemoFile
from datamodules.formats.faults import (
    Fault,
    Request,
    merge,
    not_finite,
    not_scaled,
    unreadable,
    wrong_actions,
)
from datamodules.formats.robomimic_request import RequiredArrays, required_arrays

_ABSOLUTE = (
    "If they are absolute poses, set data.init_args.control_delta to false; if they are displacements that the "
    "controller clips, to true."
)


def file_faults(file: DemoFile, request: Request) -> Iterator[Fault]:
    """Yield the faults of the file as a whole.

    Raises:
        DataError: the file cannot be opened.
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
        task = file.env_name()
    except DataError:
        problem = "expected a JSON object in the attribute env_args of `data`, found something else"
        yield Fault("env_args", name, problem, "Correct or remove the attribute.")
    else:
        if request.task not in (None, task):
            problem = f"expected demonstrations of {request.task}, found those of {task or 'no task'}"
            advice = "Set data.init_args.task to the file's task, or give the path of another file."
            yield Fault("env_id", name, problem, advice)
    yield from _wrong_masks(file, demos)


def _wrong_masks(file: DemoFile, demos: set[str]) -> Iterator[Fault]:
    for filter_key in file.filters():
        names = file.handle["mask"][filter_key]
        # In h5py, strings of fixed length have the kind S, and strings of variable length O.
        if not hasattr(names, "dtype") or names.dtype.kind not in "SO" or names.ndim != 1:
            found = f"{names.dtype} {names.shape}" if hasattr(names, "dtype") else "a group"
            problem = f"expected names of demos, found {found}"
            yield Fault(
                "mask_format",
                f"mask/{filter_key}",
                problem,
                "Write a list of names such as demo_0, as strings.",
                filter_key,
            )
            continue
        absent = [demo for demo in file.filtered(filter_key) if demo not in demos]
        if absent:
            yield Fault(
                "absent_demo",
                f"mask/{filter_key}",
                f"expected names of demos in the file, found {absent[0]}, which is absent",
                "Remove the name from the mask, or use the file for which the mask was made.",
                filter_key,
                len(absent) - 1,
            )


def demo_faults(
    file: DemoFile, demos: Mapping[str, Mapping[str, Any]], request: Request, action_key: str = "actions"
) -> list[Fault]:
    """Return the faults of demos; equal faults of several demos are reported once and counted.

    Args:
        file: the file.
        demos: the arrays of each demo, by name.
        request: the required data.
        action_key: name in the file of the array `actions`.
    """
    required = required_arrays(demos.values(), request)
    shapes: dict[str, tuple[int, ...]] = {}
    unscaled = request.unscaled_actions is not False

    def faults() -> Iterator[Fault]:
        for demo, arrays in demos.items():
            if "actions" not in arrays:
                problem = f"expected an array `{action_key}`, found none"
                yield Fault("no_actions", demo, problem, "Remove the demo, or set data.init_args.action_key.")
            yield from _missing(demo, arrays, required)
            if "actions" in arrays:
                yield from _wrong(file, demo, arrays, required, shapes, unscaled)

    return merge(faults())


def _wrong(
    file: DemoFile,
    demo: str,
    arrays: Mapping[str, Any],
    required: RequiredArrays,
    shapes: dict[str, tuple[int, ...]],
    unscaled: bool,
) -> Iterator[Fault]:
    """Yield the faults of a demo and add the shape of one step of each new array to `shapes`."""
    fault = wrong_actions(demo, arrays["actions"], required.action_dim)
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
            "The recording is truncated or edited: correct the attribute, or remove the demo.",
        )
    for name in (*required.vectors, *required.images):
        if name not in arrays:
            continue
        wrong_format = wrong_image if name in required.images else wrong_low_dim
        fault = wrong_format(demo, name, arrays[name])
        fault = fault or wrong_shape(demo, name, arrays[name].shape, n_steps, shapes)
        if fault is None and name not in required.images:
            fault = _wrong_values(file, demo, name, unscaled)
        if fault is not None:
            yield fault


def _missing(demo: str, arrays: Mapping[str, Any], required: RequiredArrays) -> Iterator[Fault]:
    groups = {name.split("/")[0] for name in arrays if "/" in name}
    if "obs" not in groups:
        yield Fault(
            "no_obs",
            demo,
            "expected observations (`obs`), found a raw recording without them",
            "Add them with `python -m robomimic.scripts.dataset_states_to_obs`, or record with observations.",
        )
    elif "next_obs" not in groups and any(name.startswith("next_obs/") for name in required.vectors + required.images):
        yield Fault(
            "no_next_obs",
            demo,
            "expected `next_obs`, found none",
            "Record next observations as well, or do not load them (load_next_obs: false).",
        )
    for name in (*required.vectors, *required.images):
        prefix, _, key = name.partition("/")
        if name in arrays or name == "actions" or (key and prefix not in groups):
            continue
        if key:
            found = [other.removeprefix(f"{prefix}/") for other in arrays if other.startswith(f"{prefix}/")]
            yield Fault(
                "missing_key",
                demo,
                f"expected the observation {key!r} in `{prefix}`, found {', '.join(found)}",
                "Choose one of these keys, or add the missing one (`difftori data render` adds images).",
                name,
            )
        else:
            yield Fault(
                f"no_{name}",
                demo,
                f"expected `{name}`, found none",
                "Missing values are not replaced by zeros: record them, or do not load them (load_rewards: false).",
            )


def _wrong_values(file: DemoFile, demo: str, name: str, unscaled: bool) -> Fault | None:
    try:
        values = file.read(demo, name)
    except DataError as error:
        return unreadable(file.path, name, error)
    fault = not_finite(demo, name, values)
    if fault is None and name == "actions" and unscaled:
        fault = not_scaled(demo, values, _ABSOLUTE)
    return fault
