"""What can be wrong with a robomimic file, each rule once: the datamodule and `difftori data check` share them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from datamodules.errors import DataError
from datamodules.robomimic_file import RobomimicFile


@dataclass(frozen=True)
class Fault:
    """One fault of a file; `str(fault)` is the message for people.

    Attributes:
        rule: name of the rule, for programs.
        where: the demo, and the step if there is one.
        problem: what was expected, and what came.
        advice: what to do.
        subject: the array or filter key it is about.
        n_more: further demos with the same fault.
    """

    rule: str
    where: str
    problem: str
    advice: str
    subject: str = ""
    n_more: int = 0

    def __str__(self) -> str:
        others = f" (and the same in {self.n_more} more)" if self.n_more else ""
        return f"{self.where}: {self.problem}{others}. {self.advice}"


@dataclass(frozen=True)
class Request:
    """What a file is wanted for.

    Attributes:
        obs_keys: low-dim observation keys; None: all that the file has.
        image_keys: image observation keys; None: all that the file has.
        action_dim: size of an action; None: whatever the first demo has.
        next_obs: the observations one step later are needed.
        rewards: rewards and dones are needed.
    """

    obs_keys: Sequence[str] | None = None
    image_keys: Sequence[str] | None = None
    action_dim: int | None = None
    next_obs: bool = True
    rewards: bool = True


def file_faults(file: RobomimicFile) -> Iterator[Fault]:
    """Find what is wrong with the file as a whole.

    Raises:
        DataError: it cannot be opened.
    """
    name = file.path.name
    if "data" not in file.handle:
        found = ", ".join(file.handle) or "nothing"
        yield Fault(
            "no_data", name, f"expected a group `data` with the demos, found {found}", "Convert the file first."
        )
        return
    demos = set(file.handle["data"])
    if not demos:
        yield Fault("no_demos", name, "expected demos under `data`, found none", "Record or download some.")
    try:
        file.env_meta()
    except DataError:
        problem = "expected a JSON object in the attribute env_args of `data`, found something else"
        yield Fault("env_args", name, problem, "Write it again or drop it.")
    for filter_key in file.filters():
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


def demo_faults(file: RobomimicFile, demos: Sequence[str], request: Request) -> list[Fault]:
    """Find what is wrong with these demos; equal faults of several demos are reported once and counted."""
    groups = [file.handle["data"][demo] for demo in demos]
    low_dim_keys, image_keys = _keys(next((group["obs"] for group in groups if "obs" in group), {}), request)
    shapes: dict[str, tuple[int, ...]] = {} if request.action_dim is None else {"actions": (request.action_dim,)}
    return merge(
        fault
        for demo, group in zip(demos, groups, strict=True)
        for fault in chain(
            _missing(demo, group, [*low_dim_keys, *image_keys], request),
            _wrong(file, demo, low_dim_keys, image_keys, request, shapes),
        )
    )


def merge(faults: Iterable[Fault]) -> list[Fault]:
    """Report equal faults of several demos once, and count them."""
    merged: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        same = merged.get((fault.rule, fault.subject))
        merged[fault.rule, fault.subject] = fault if same is None else replace(same, n_more=same.n_more + 1)
    return list(merged.values())


def _keys(example: Any, request: Request) -> tuple[list[str], list[str]]:
    """The low-dim and image keys to look at; where the request leaves them open, those of an example `obs` group."""
    images = [key for key in example if example[key].dtype == np.uint8 or key.endswith("_image")]
    low_dim = [key for key in example if key not in images]
    return (
        low_dim if request.obs_keys is None else list(request.obs_keys),
        images if request.image_keys is None else list(request.image_keys),
    )


def _missing(demo: str, group: Any, keys: Sequence[str], request: Request) -> Iterator[Fault]:
    if "actions" not in group:
        yield Fault("no_actions", demo, "expected an array `actions`, found none", "Remove the demo.")
    if "obs" not in group:
        yield Fault(
            "no_obs",
            demo,
            "expected observations (`obs`), found a raw recording without them",
            "Add them with `python -m robomimic.scripts.dataset_states_to_obs`, or record with observations.",
        )
    elif request.next_obs and "next_obs" not in group:
        yield Fault(
            "no_next_obs",
            demo,
            "expected `next_obs`, found none",
            "Write the file again with next observations, or do not ask for them (load_next_obs: false).",
        )
    for prefix in ("obs", "next_obs") if request.next_obs else ("obs",):
        for key in keys if prefix in group else ():
            if key not in group[prefix]:
                yield Fault(
                    "missing_key",
                    demo,
                    f"expected the observation {key!r} in `{prefix}`, found {', '.join(group[prefix]) or 'none'}",
                    "Name one of these, or add the missing one (`difftori data render` adds images).",
                    f"{prefix}/{key}",
                )
    for name in ("rewards", "dones") if request.rewards else ():
        if name not in group:
            yield Fault(
                f"no_{name}",
                demo,
                f"expected `{name}`, found none",
                "They are never taken as zero: write them, or do not ask for them (load_rewards: false).",
            )


def _wrong(
    file: RobomimicFile,
    demo: str,
    low_dim_keys: Sequence[str],
    image_keys: Sequence[str],
    request: Request,
    shapes: dict[str, tuple[int, ...]],
) -> Iterator[Fault]:
    """What is wrong with the arrays that are there; `shapes` holds what each step is to look like and learns it."""
    group = file.handle["data"][demo]
    if "actions" not in group:
        return
    n_steps = len(group["actions"])
    if n_steps == 0:
        yield Fault("empty_demo", demo, "expected at least one step, found none", "Remove the demo.")
        return
    declared = group.attrs.get("num_samples")
    if declared is not None and int(declared) != n_steps:
        yield Fault(
            "num_samples",
            demo,
            f"expected num_samples to be the number of actions, {n_steps}, found {int(declared)}",
            "The recording was cut short or edited: correct the attribute, or remove the demo.",
        )
    prefixes = ("obs", "next_obs") if request.next_obs else ("obs",)
    low_dim = ["actions", *(f"{prefix}/{key}" for prefix in prefixes for key in low_dim_keys)]
    images = [f"{prefix}/{key}" for prefix in prefixes for key in image_keys]
    for name in [*low_dim, *(("rewards", "dones") if request.rewards else ()), *images]:
        if name not in group:
            continue
        wrong_format = _wrong_image if name in images else _wrong_low_dim
        fault = wrong_format(demo, name, group[name]) or _wrong_shape(
            demo, name, group[name].shape, n_steps, shapes.get(name)
        )
        if fault is not None:
            yield fault
            continue
        shapes.setdefault(name, group[name].shape[1:])
        if name not in images:
            yield from _wrong_values(file, demo, name)


def _wrong_image(demo: str, name: str, array: Any) -> Fault | None:
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3:
        return None
    return Fault(
        "image_format",
        demo,
        f"expected {name} to be uint8 images (steps, height, width, 3), found {array.dtype} {array.shape}",
        "Render the images again, or name the key among obs_keys if it is no image.",
        name,
    )


def _wrong_low_dim(demo: str, name: str, array: Any) -> Fault | None:
    is_scalar = name in ("rewards", "dones")
    if array.ndim == 4 and array.dtype == np.uint8:
        return Fault(
            "image_as_low_dim", demo, f"expected vectors in {name}, found images", "Name it among image_keys.", name
        )
    if array.dtype.kind in "fiub" and (array.ndim == 1 if is_scalar else array.ndim >= 2):
        return None
    wanted = "(steps,)" if is_scalar else "(steps, size)"
    return Fault(
        "array_format",
        demo,
        f"expected {name} to be numbers {wanted}, found {array.dtype} {array.shape}",
        "Write it again in that shape.",
        name,
    )


def _wrong_shape(
    demo: str, name: str, shape: tuple[int, ...], n_steps: int, expected: tuple[int, ...] | None
) -> Fault | None:
    if shape[0] != n_steps:
        return Fault(
            "length",
            demo,
            f"expected {n_steps} steps in {name}, as in actions, found {shape[0]}",
            "The recording was cut short: remove the demo, or record it again.",
            name,
        )
    if expected is None or shape[1:] == expected:
        return None
    if name == "actions":
        return Fault(
            "action_dim",
            demo,
            f"expected actions of size {expected[0]}, found {shape[1]}",
            "Set action_dim of the data and of the model to the file's, or use data of another controller.",
        )
    return Fault(
        "shape",
        demo,
        f"expected {name} of shape {expected} at each step, as in the first demo, found {shape[1:]}",
        "Do not mix recordings of different set-ups in one file.",
        name,
    )


def _wrong_values(file: RobomimicFile, demo: str, name: str) -> Iterator[Fault]:
    try:
        values = file.read(demo, name)
    except DataError:
        problem = f"expected to read {name}, found damaged bytes"
        yield Fault("damaged", demo, problem, "Copy or make the file again, or remove the demo.", name)
        return
    finite = np.isfinite(values)
    if not finite.all():
        step, *at = np.argwhere(~finite)[0].tolist()
        yield Fault(
            "not_finite",
            f"{demo}, step {step}",
            f"expected finite numbers in {name}, found {values[(step, *at)]}",
            "Remove the demo, or find what wrote it.",
            name,
        )
    elif name == "actions" and (np.abs(values) > 1).any():
        step, *at = np.argwhere(np.abs(values) > 1)[0].tolist()
        yield Fault(
            "action_range",
            f"{demo}, step {step}",
            f"expected actions in [-1, 1], found {values[(step, *at)]:g} at coordinate {at[0]}",
            "Absolute actions or those of another controller: use the controller's normalised input, or scale the "
            "actions by their range before training.",
        )
