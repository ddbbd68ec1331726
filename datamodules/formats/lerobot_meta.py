"""Metadata of a LeRobot data set in format v2.0, v2.1 or v3.0: features, episodes, tasks and paths of the files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from datamodules.errors import DataError
from datamodules.formats.damage import clear_errors
from datamodules.formats.lerobot_tables import READERS, read_rows

INFO = "meta/info.json"
_PREFIX = "observation."


@dataclass(frozen=True)
class Feature:
    """An array of a data set.

    Attributes:
        name: LeRobot's name, e.g. "observation.images.front".
        dtype: "video", "image" (pictures stored in the parquet file), or the type of the numbers.
        shape: of one step; (height, width, channels) for images.
        is_depth: whether the images hold distances.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    is_depth: bool = False

    @property
    def is_image(self) -> bool:
        """Whether one step is an image."""
        return self.dtype in ("video", "image")

    @property
    def is_numeric(self) -> bool:
        """Whether one step is a vector of numbers or booleans."""
        return bool(re.fullmatch(r"(u?int|float)\d+|bool", self.dtype))

    @property
    def key(self) -> str:
        """The observation key: the name without "observation." and with underscores instead of dots.

        Modules of PyTorch cannot have dots in the names of their buffers.
        """
        return self.name.removeprefix(_PREFIX).replace(".", "_")


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        index: LeRobot's number of the episode.
        length: number of steps.
        tasks: the task strings.
        data_path: the parquet file; it may hold further episodes.
        video_paths: the video of each camera, by LeRobot's name; it may hold further episodes.
        video_starts: time of the first frame in each video, in seconds.
    """

    index: int
    length: int
    tasks: tuple[str, ...]
    data_path: Path
    video_paths: Mapping[str, Path] = field(default_factory=dict)
    video_starts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LeRobotMeta:
    """The metadata of a data set.

    Attributes:
        version: format version, e.g. (3, 0).
        fps: steps per second.
        robot: LeRobot's name of the robot; empty if the data set has none.
        features: the features by LeRobot's name.
        episodes: the episodes by the name of the demo, `episode_<index>`.
        tasks: the task strings; their position is the task index.
        totals: the numbers of episodes and steps that `meta/info.json` declares.
    """

    version: tuple[int, int]
    fps: float
    robot: str
    features: Mapping[str, Feature]
    episodes: Mapping[str, Episode]
    tasks: tuple[str, ...]
    totals: Mapping[str, int]

    @property
    def observations(self) -> dict[str, Feature]:
        """The numeric and image features whose name begins with "observation.", by observation key."""
        found = (part for part in self.features.values() if part.name.startswith(_PREFIX))
        return {part.key: part for part in found if part.is_image or part.is_numeric}


def read_meta(folder: Path) -> LeRobotMeta:
    """Read the metadata of a data set.

    Raises:
        DataError: a file is missing or damaged, or the format is another version.
    """
    with clear_errors(folder / INFO, READERS):
        info = json.loads((folder / INFO).read_text())
    try:
        version = _version(info["codebase_version"])
        features = {name: _feature(name, entry) for name, entry in info["features"].items()}
        fps = float(info["fps"])
        totals = {name: int(info[name]) for name in ("total_episodes", "total_frames") if name in info}
        if not fps > 0.0:
            raise ValueError(f"fps must be above 0, got {fps:g}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{folder / INFO}: expected codebase_version, fps and features as LeRobot writes them, got "
            f"{type(error).__name__}: {error}. Copy or record the data set again."
        ) from error
    if version[0] not in (2, 3):
        raise DataError(
            f"{folder}: expected LeRobot format v2.0, v2.1 or v3.0, got {info['codebase_version']}. Convert it with "
            "lerobot's own script."
        )
    cameras = [feature.name for feature in features.values() if feature.dtype == "video"]
    read = _episodes_v3 if version[0] == 3 else _episodes_v2
    with clear_errors(folder / "meta", READERS):
        try:
            episodes = {f"episode_{episode.index}": episode for episode in read(folder, info, cameras)}
            tasks = _tasks(folder, version)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{folder / 'meta'}: expected episodes and tasks as LeRobot writes them, got {type(error).__name__}: "
                f"{error}. Copy or record the data set again."
            ) from error
    robot = str(info.get("robot_type") or "")
    return LeRobotMeta(version, fps, robot, features, dict(sorted(episodes.items(), key=_index)), tasks, totals)


def _index(item: tuple[str, Episode]) -> int:
    return item[1].index


def _version(text: str) -> tuple[int, int]:
    major, minor = str(text).removeprefix("v").split(".")[:2]
    return int(major), int(minor)


def _feature(name: str, entry: Mapping[str, Any]) -> Feature:
    shape = tuple(int(size) for size in entry["shape"])
    dtype = str(entry["dtype"])
    about = entry.get("info") or entry.get("video_info") or {}
    if dtype in ("video", "image") and len(shape) == 3:
        names = list(entry.get("names") or ())
        # Some writers put the channels first; without names, the channels are the axis of size 3.
        if names[:1] in (["channels"], ["channel"], ["c"]) or (len(names) != 3 and shape[0] == 3 and shape[2] != 3):
            shape = (*shape[1:], shape[0])
    return Feature(name, dtype, shape, bool(about.get("video.is_depth_map", False)))


def _episodes_v2(folder: Path, info: Mapping[str, Any], cameras: list[str]) -> Iterator[Episode]:
    for row in _json_lines(folder / "meta/episodes.jsonl"):
        index = int(row["episode_index"])
        numbers = {"episode_index": index, "episode_chunk": index // int(info.get("chunks_size", 1000))}
        yield Episode(
            index,
            int(row["length"]),
            tuple(map(str, row.get("tasks", ()))),
            _path(folder, info["data_path"], numbers),
            {name: _path(folder, info["video_path"], numbers | {"video_key": name}) for name in cameras},
            dict.fromkeys(cameras, 0.0),
        )


def _episodes_v3(folder: Path, info: Mapping[str, Any], cameras: list[str]) -> Iterator[Episode]:
    files = sorted((folder / "meta/episodes").glob("chunk-*/file-*.parquet"))
    if not files:
        raise DataError(
            f"{folder}: expected meta/episodes/chunk-*/file-*.parquet, found none. Copy the data set again."
        )
    for row in (row for file in files for row in read_rows(file, without="stats/")):
        paths, starts = {}, {}
        for name in cameras:
            video = f"videos/{name}"
            numbers = {part: row[f"{video}/{part}"] for part in ("chunk_index", "file_index")}
            paths[name] = _path(folder, info["video_path"], numbers | {"video_key": name})
            starts[name] = float(row[f"{video}/from_timestamp"])
        numbers = {part: row[f"data/{part}"] for part in ("chunk_index", "file_index")}
        data_path = _path(folder, info["data_path"], numbers)
        tasks = tuple(map(str, row.get("tasks") or ()))
        yield Episode(int(row["episode_index"]), int(row["length"]), tasks, data_path, paths, starts)


def _tasks(folder: Path, version: tuple[int, int]) -> tuple[str, ...]:
    if version[0] == 2:
        named = {int(row["task_index"]): str(row["task"]) for row in _json_lines(folder / "meta/tasks.jsonl")}
    else:
        named = {}
        for row in read_rows(folder / "meta/tasks.parquet"):
            # pandas stores the index without a name as "__index_level_0__".
            (text,) = (value for name, value in row.items() if name in ("task", "__index_level_0__"))
            named[int(row["task_index"])] = str(text)
    if sorted(named) != list(range(len(named))):
        raise ValueError(f"task indices must be 0, 1, ..., got {sorted(named)}")
    return tuple(named[index] for index in range(len(named)))


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in path.read_text().splitlines() if line.strip())


def _path(folder: Path, template: str, values: Mapping[str, Any]) -> Path:
    """Fill a path template of `meta/info.json` and check that the path stays inside the folder.

    `str.format` would give the writer of the file access to attributes. Links are allowed: the cache of the Hugging
    Face hub consists of links to another folder.
    """

    def fill(match: re.Match[str]) -> str:
        value = values[match[1]]
        return f"{int(value):0{int(match[2])}d}" if match[2] else str(value)

    relative = PurePosixPath(re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", fill, template))
    if relative.is_absolute() or ".." in relative.parts or "\\" in str(relative):
        raise DataError(
            f"{folder / INFO}: expected paths inside the folder, got {str(relative)!r}. Do not use this data set."
        )
    return folder / relative
