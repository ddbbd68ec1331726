"""The checks behind `difftori data check`: all faults of a file, or a summary of a valid file."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datamodules.errors import DataError, MissingDataError
from datamodules.formats.damage import verify_check_sums
from datamodules.formats.demo_file import DemoFile
from datamodules.formats.faults import Fault, Request, merge, unreadable
from datamodules.formats.lerobot_file import LeRobotFile
from datamodules.formats.maniskill3_file import ManiSkill3File
from datamodules.formats.maniskill_file import ManiSkillFile
from datamodules.formats.pusht_file import PushTFile
from datamodules.formats.robomimic_file import RobomimicFile

FORMATS: tuple[type[DemoFile], ...] = (
    PushTFile,
    LeRobotFile,
    ManiSkill3File,
    ManiSkillFile,
    RobomimicFile,
)
"""Formats in the order in which they are tried; the last one reports a path that no format recognises."""


@dataclass(frozen=True)
class Summary:
    """Summary of a file.

    Attributes:
        n_demos: number of demos.
        n_steps: total number of steps.
        shortest: number of steps of the shortest demo.
        longest: number of steps of the longest demo.
        shapes: shape of one step of each array of the first demo, e.g. {"obs/object": (14,)}.
        filters: number of demos of each filter key.
        action_min: smallest value of each action coordinate, (A,).
        action_max: largest value of each action coordinate, (A,).
        content: description of the content, e.g. the task; see `DemoFile.content`.
    """

    n_demos: int
    n_steps: int
    shortest: int
    longest: int
    shapes: dict[str, tuple[int, ...]]
    filters: dict[str, int]
    action_min: tuple[float, ...]
    action_max: tuple[float, ...]
    content: str


def check(path: str | os.PathLike[str], request: Request | None = None) -> list[Fault]:
    """Find all faults for which the datamodules would refuse a file, and `DemoFile.other_faults`.

    Args:
        path: the file.
        request: the required data; None requires of every demo each array that any demo has.

    Returns:
        The faults of the file as a whole or, if there are none, the faults of its demos; empty for a valid file.

    Raises:
        MissingDataError: the path does not exist.
    """
    file = _file(path)
    try:
        with file.clear_errors():
            verify_check_sums(file.path)
            faults = _faults(file, request or Request())
    except MissingDataError:
        raise
    except DataError as error:
        problem = str(error).removeprefix(f"{file.path}: ").rstrip(".")
        faults = [Fault("unreadable", str(file.path), problem, "Nothing was checked.")]
    finally:
        file.close()
    return faults


def summary(path: str | os.PathLike[str]) -> Summary:
    """Summarise a valid file; run `check` first.

    Raises:
        DataError: the file cannot be opened.
    """
    file = _file(path)
    try:
        with file.clear_errors():
            return _summary(file)
    finally:
        file.close()


def _summary(file: DemoFile) -> Summary:
    demos = file.demos()
    lengths = [file.length(demo) for demo in demos]
    ranges = [(values.min(axis=0), values.max(axis=0)) for values in (file.read(demo, "actions") for demo in demos)]
    return Summary(
        n_demos=len(demos),
        n_steps=sum(lengths),
        shortest=min(lengths),
        longest=max(lengths),
        shapes={key: file.shape(demos[0], key)[1:] for key in file.keys(demos[0])},
        filters={name: len(file.filtered(name)) for name in file.filters()},
        action_min=tuple(np.min([low for low, _ in ranges], axis=0).tolist()),
        action_max=tuple(np.max([high for _, high in ranges], axis=0).tolist()),
        content=file.content(),
    )


def _file(path: str | os.PathLike[str]) -> DemoFile:
    path = Path(path).expanduser()
    form = next((form for form in FORMATS if form.recognises(path)), None)
    if form is None and not path.exists():
        raise MissingDataError(f"{path}: no such file or folder")
    return (form or FORMATS[-1])(path)


def _faults(file: DemoFile, request: Request) -> list[Fault]:
    faults = list(file.file_faults(request))
    if faults:
        return faults
    demos = file.usable(request)
    found = file.demo_faults(demos, request) or merge(_unreadable(file, demos, request))
    return [*found, *file.other_faults()]


def _unreadable(file: DemoFile, demos: list[str], request: Request) -> Iterator[Fault]:
    """Yield the read errors of all columns, including images and clouds, which `demo_faults` does not read."""
    columns = file.columns(demos, request)
    for demo in demos:
        for name in columns:
            try:
                file.read(demo, name)
            except DataError as error:
                yield unreadable(file.path, name, error)
