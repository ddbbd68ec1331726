"""Faults of demonstration files, requests for data, and the checks that all formats share."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

ROUNDING = 1e-6
"""Tolerance by which rounding to float32 may move actions out of [-1, 1]; loaded actions are clipped."""


@dataclass(frozen=True)
class Fault:
    """A fault of a file; `str(fault)` is the message for users.

    Attributes:
        rule: identifier of the violated rule, for programs.
        where: the demo and, if known, the step.
        problem: the expected and the found value.
        advice: how to correct the fault.
        subject: the array or filter key with the fault.
        n_more: number of further demos with the same fault.
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
    """The data required from a file; a format ignores the fields that do not apply to it.

    Attributes:
        obs_keys: low-dim observation keys; None requires all keys in the file.
        image_keys: image observation keys; None requires all keys in the file.
        action_dim: size of an action; None requires the size of the first demo.
        next_obs: whether the observations one step later are required; None requires them if the file has any.
        rewards: whether rewards and dones are required; None requires them if the file has any.
        task: the simulator's name of the task; None accepts any.
        control_mode: the controller of the actions; None accepts any.
        obs_dims: size of each low-dim observation; None accepts any.
        drop_failed: drop failed and empty demos instead of reporting them.
        unscaled_actions: the actions must lie in [-1, 1], because they are not scaled; None requires it of files whose
            actions are the input of a controller that takes [-1, 1].
    """

    obs_keys: Sequence[str] | None = None
    image_keys: Sequence[str] | None = None
    action_dim: int | None = None
    next_obs: bool | None = None
    rewards: bool | None = None
    task: str | None = None
    control_mode: str | None = None
    obs_dims: dict[str, int] | None = None
    drop_failed: bool = False
    unscaled_actions: bool | None = None


def merge(faults: Iterable[Fault]) -> list[Fault]:
    """Combine equal faults of several demos into one and count them."""
    merged: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        same = merged.get((fault.rule, fault.subject))
        merged[fault.rule, fault.subject] = fault if same is None else replace(same, n_more=same.n_more + 1)
    return list(merged.values())


def unreadable(path: Path, name: str, error: DataError) -> Fault:
    """Convert the error of a `DemoFile.read` into a fault."""
    where, _, message = str(error).removeprefix(f"{path}: ").partition(": ")
    problem, _, advice = message.partition(". ")
    return Fault("damaged", where, problem, advice, name)


def wrong_actions(demo: str, actions: Any, action_dim: int | None) -> Fault | None:
    """Return the first fault in the type or shape of stored actions (T, A).

    Args:
        demo: name of the demo.
        actions: an array in memory or in a file.
        action_dim: the expected A; None accepts any.
    """
    if not is_numeric(actions) or actions.ndim != 2:
        problem = f"expected actions to be numbers (steps, size), found {actions.dtype} {actions.shape}"
        return Fault("array_format", demo, problem, "Write the array in that shape.", "actions")
    if action_dim not in (None, actions.shape[1]):
        problem = f"expected actions of size {action_dim}, found {actions.shape[1]}"
        advice = "Set action_dim of the data and of the model to the file's size, or use data of another controller."
        return Fault("action_dim", demo, problem, advice, "actions")
    return None


def is_numeric(array: Any) -> bool:
    """Return whether an array holds real numbers or booleans."""
    return array.dtype.kind in "fiub"


def not_finite(demo: str, name: str, values: npt.NDArray[Any]) -> Fault | None:
    """Return a fault for the first value of an array (T, ...) that is NaN or that float32 cannot hold."""
    # Comparisons with NaN are false.
    finite = np.abs(values.astype(np.float64)) <= np.finfo(np.float32).max
    if finite.all():
        return None
    where, found = _first(demo, values, ~finite)
    problem = f"expected finite numbers in {name}, found {found}"
    return Fault("not_finite", where, problem, "Remove the demo, or correct the program that wrote it.", name)


def not_scaled(demo: str, values: npt.NDArray[Any], advice: str = "") -> Fault | None:
    """Return a fault for the first action outside [-1, 1].

    Args:
        demo: name of the demo.
        values: actions (T, A), finite.
        advice: what to try before a scaling.
    """
    option = "Set data.init_args.action_scaling to min_max, so that the data's units become [-1, 1]."
    return out_of_range(demo, values, -1.0, 1.0, "actions in [-1, 1]", f"{advice} {option}".strip())


def out_of_range(
    demo: str, values: npt.NDArray[Any], low: float, high: float, expected: str, advice: str
) -> Fault | None:
    """Return a fault for the first action that exceeds a range by more than `ROUNDING`.

    Args:
        demo: name of the demo.
        values: actions (T, A), finite.
        low: smallest allowed value.
        high: largest allowed value.
        expected: description of the range.
        advice: how to correct actions outside the range.
    """
    slack = ROUNDING * (high - low) / 2
    outside = (values < low - slack) | (values > high + slack)
    if not outside.any():
        return None
    where, found = _first(demo, values, outside)
    return Fault("action_range", where, f"expected {expected}, found {found}", advice, "actions")


def _first(demo: str, values: npt.NDArray[Any], bad: npt.NDArray[np.bool_]) -> tuple[str, str]:
    """Describe the step and the value of the first bad entry."""
    step, *at = np.argwhere(bad)[0].tolist()
    coordinate = f" at coordinate {at[0]}" if len(at) == 1 else ""
    return f"{demo}, step {step}", f"{float(values[(step, *at)]):.9g}{coordinate}"
