"""Read-only reader of LeRobot data sets, formats v2.0, v2.1 and v3.0, without the lerobot package."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile, describe
from datamodules.formats.faults import Fault, Request
from datamodules.formats.lerobot_faults import demo_faults, file_faults, other_faults
from datamodules.formats.lerobot_meta import INFO, Episode, Feature, LeRobotMeta, read_meta
from datamodules.formats.lerobot_tables import READERS, Tables
from datamodules.formats.video_frames import frames_at

ACTION = "action"
TASK = "task"
"""Observation key of the task index as a one-hot vector."""
_LISTED = 3
"""Number of tasks that a description of the content names; the filters name all."""


class LeRobotFile(DemoFile):
    """A LeRobot data set: numbers in parquet files, images in parquet or mp4 files.

    The columns are "actions" and "obs/<key>", where a key is LeRobot's name without "observation." and with underscores
    instead of dots: `state` for `observation.state`, `images_front` for `observation.images.front`. "obs/task" is the
    task index as a one-hot vector. Booleans are read as 0 and 1, images as uint8 (height, width, 3). The task strings
    are the filter keys.

    Args:
        path: the folder of the data set, which contains `meta/info.json`.
    """

    format_name = "a LeRobot data set"
    kind = "folder"
    readers = READERS
    how_to_get = (
        "Download one with `huggingface-cli download --repo-type dataset USER/NAME --local-dir FOLDER`, or give the "
        "folder that lerobot recorded, ~/.cache/huggingface/lerobot/USER/NAME."
    )

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._tables = Tables()

    @classmethod
    def recognises(cls, path: Path) -> bool:
        """Return whether this is a folder with `meta/info.json`."""
        return (path / INFO).is_file()

    @property
    def meta(self) -> LeRobotMeta:
        """The metadata.

        Raises:
            DataError: they cannot be read.
        """
        if self._handle is None:
            self._require(self.path.is_dir())
            if not self.recognises(self.path):
                raise DataError(f"{self.path}: expected {self.format_name}, got {describe(self.path)}")
            self._handle = read_meta(self.path)
        return self._handle

    @property
    def handle(self) -> LeRobotMeta:
        """The metadata, which are read at the first access."""
        return self.meta

    def close(self) -> None:
        """Forget the columns in memory; the metadata stay. No file is open between two reads."""
        self._tables.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_tables": Tables()}

    def demos(self) -> list[str]:
        """See `DemoFile.demos`."""
        return list(self.meta.episodes)

    def env_name(self) -> str:
        """Return an empty string: a data set has no simulator."""
        return ""

    def content(self) -> str:
        """Return the robot, the steps per second and the tasks; see `DemoFile.content`."""
        tasks = self.meta.tasks
        listed = ", ".join(map(repr, tasks[:_LISTED])) + (", ..." if len(tasks) > _LISTED else "")
        number = f"{len(tasks)} task{'' if len(tasks) == 1 else 's'}"
        return f"{self.meta.robot or 'unknown robot'} at {self.meta.fps:g} steps per second, {number} ({listed})"

    def filters(self) -> list[str]:
        """Return the task strings."""
        return list(self.meta.tasks)

    def filtered(self, name: str) -> list[str]:
        """Return the episodes of a task; see `DemoFile.filtered`."""
        if name not in self.meta.tasks:
            return super().filtered(name)
        return [demo for demo, episode in self.meta.episodes.items() if name in episode.tasks]

    def file_faults(self, request: Request) -> list[Fault]:
        """See `DemoFile.file_faults`."""
        return file_faults(self.meta, self.path.name, request)

    def demo_faults(self, demos: Sequence[str], request: Request) -> list[Fault]:
        """See `DemoFile.demo_faults`; opens each video once."""
        return demo_faults(self.path, self.meta, self._tables, demos, self._features(request), request)

    def other_faults(self) -> list[Fault]:
        """See `DemoFile.other_faults`."""
        return other_faults(self.path, self.meta)

    def columns(self, demos: Sequence[str], request: Request) -> list[str]:
        """See `DemoFile.columns`."""
        return ["actions", *(f"obs/{key}" for key in self._keys(request))]

    def keys(self, demo: str) -> list[str]:
        """See `DemoFile.keys`."""
        return self.columns([demo], Request())

    def length(self, demo: str) -> int:
        """See `DemoFile.length`."""
        return self._episode(demo).length

    def shape(self, demo: str, key: str) -> tuple[int, ...]:
        """See `DemoFile.shape`."""
        if key == f"obs/{TASK}":
            return (self.length(demo), len(self.meta.tasks))
        feature = self._feature(key)
        return (self.length(demo), *(feature.shape if feature.is_image else (int(np.prod(feature.shape)),)))

    def _values(self, demo: str, key: str, first: int, stop: int) -> npt.NDArray[Any]:
        episode = self._episode(demo)
        rows = self._tables.rows(episode.data_path, episode.index)
        if rows.stop - rows.start < stop:
            raise DataError(
                f"{self.path}: {demo}: expected {episode.length} rows in {episode.data_path.name}, found "
                f"{rows.stop - rows.start}. Copy the data set again."
            )
        chosen = slice(rows.start + first, rows.start + stop)
        if key == f"obs/{TASK}":
            indices = self._tables.numbers(episode.data_path, "task_index")[chosen, 0]
            return np.eye(len(self.meta.tasks), dtype=np.float32)[indices]
        feature = self._feature(key)
        if not feature.is_image:
            return self._tables.numbers(episode.data_path, feature.name)[chosen]
        frames = self._frames(episode, feature, chosen)
        images = np.empty((stop - first, *feature.shape), np.uint8)
        for at, frame in enumerate(frames):
            if frame.shape != feature.shape:
                raise DataError(
                    f"{self.path}: {demo}: expected images {feature.shape} of {feature.name}, found {frame.shape}. "
                    "Correct meta/info.json, or remove the episode."
                )
            images[at] = frame
        return images

    def _frames(self, episode: Episode, feature: Feature, rows: slice) -> Iterator[npt.NDArray[np.uint8]]:
        if feature.dtype == "image":
            pictures = self._tables.pictures(episode.data_path, feature.name, rows.start, rows.stop)
            return (_decoded(picture) for picture in pictures)
        seconds = self._tables.numbers(episode.data_path, "timestamp")[rows, 0].astype(np.float64)
        # The parquet files hold float32 times; a step between two frames gets the nearest one.
        tolerance = 0.5 / self.meta.fps + 1e-3
        times = np.maximum.accumulate(seconds) + episode.video_starts[feature.name]
        return frames_at(episode.video_paths[feature.name], times, tolerance)

    def _episode(self, demo: str) -> Episode:
        return self.meta.episodes[demo]

    def _feature(self, key: str) -> Feature:
        return self.meta.features[ACTION] if key == "actions" else self.meta.observations[key.removeprefix("obs/")]

    def _keys(self, request: Request) -> list[str]:
        observations = self.meta.observations
        vectors, images = request.obs_keys, request.image_keys
        if vectors is None:
            vectors = [key for key, feature in observations.items() if not feature.is_image]
        if images is None:
            images = [key for key, feature in observations.items() if feature.is_image and not feature.is_depth]
        return [*vectors, *images]

    def _features(self, request: Request) -> list[Feature]:
        return [self._feature("actions"), *(self.meta.observations[key] for key in self._keys(request) if key != TASK)]


def _decoded(picture: bytes) -> npt.NDArray[np.uint8]:
    from PIL import Image

    # The other decoders of Pillow are less used and have had more vulnerabilities.
    with Image.open(io.BytesIO(picture), formats=("PNG", "JPEG")) as image:
        return np.asarray(image.convert("RGB"), np.uint8)
