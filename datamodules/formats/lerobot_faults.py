"""Faults of LeRobot data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.damage import clear_errors
from datamodules.formats.faults import Fault, Request, merge, not_finite, not_scaled
from datamodules.formats.lerobot_meta import INFO, Episode, Feature, LeRobotMeta
from datamodules.formats.lerobot_tables import READERS, Tables
from datamodules.formats.video_frames import VideoFacts, probe

_COPY = "Copy the data set again."


def file_faults(meta: LeRobotMeta, where: str, request: Request) -> list[Fault]:
    """Return the faults of the metadata for which a request cannot be served.

    Args:
        meta: the metadata.
        where: name of the folder, for the messages.
        request: the required data.
    """
    if not meta.episodes:
        return [Fault("no_demos", where, "expected at least one episode, found none", _COPY)]
    faults = []
    action = meta.features.get("action")
    if action is None or not action.is_numeric:
        found = ", ".join(meta.features) if action is None else action.dtype
        faults.append(Fault("missing_array", where, f"expected a feature action of numbers, found {found}", _COPY))
    elif request.action_dim not in (None, int(np.prod(action.shape))):
        problem = f"expected actions of size {request.action_dim}, found {int(np.prod(action.shape))}"
        advice = "Set action_dim of the data and of the model to the size in the data set."
        faults.append(Fault("action_dim", where, problem, advice, "actions"))
    observations = meta.observations
    kinds = ((request.obs_keys, False, "obs_keys"), (request.image_keys, True, "image_keys"))
    for keys, is_image, argument in kinds:
        usable = [key for key, feature in observations.items() if feature.is_image == is_image]
        usable += [] if is_image else ["task"]
        for key in keys or ():
            if key not in usable:
                problem = f"expected {argument} out of {', '.join(usable) or 'none'}, found {key}"
                advice = 'A key is the name without "observation." and with underscores instead of dots.'
                faults.append(Fault("missing_array", where, problem, advice, key))
    chosen = [feature for feature in observations.values() if feature.is_image and not feature.is_depth]
    for feature in chosen if request.image_keys is None else [f for f in chosen if f.key in request.image_keys]:
        if len(feature.shape) != 3 or feature.shape[2] != 3:
            problem = f"expected images (height, width, 3) in {feature.name}, found {feature.shape}"
            faults.append(Fault("shape", where, problem, "Remove the camera from image_keys.", feature.name))
    return faults


def demo_faults(
    folder: Path,
    meta: LeRobotMeta,
    tables: Tables,
    demos: Sequence[str],
    features: Sequence[Feature],
    request: Request,
) -> list[Fault]:
    """Return the faults of episodes: files, lengths, sizes, times, values and videos; equal faults are counted.

    Args:
        folder: the folder of the data set.
        meta: the metadata.
        tables: reader of the parquet files.
        demos: names of the episodes.
        features: the required features.
        request: the required data.
    """
    videos: dict[Path, VideoFacts | Fault] = {}
    vectors = [feature for feature in features if not feature.is_image]
    pictures = [feature for feature in features if feature.dtype == "image"]
    cameras = [feature for feature in features if feature.dtype == "video"]

    def faults() -> Iterator[Fault]:
        for demo in demos:
            episode = meta.episodes[demo]
            yield from _data_faults(folder, meta, tables, demo, episode, vectors, pictures, request)
            for feature in cameras:
                yield from _video_faults(folder, meta, demo, episode, feature, videos)

    return merge(faults())


def _data_faults(
    folder: Path,
    meta: LeRobotMeta,
    tables: Tables,
    demo: str,
    episode: Episode,
    vectors: Sequence[Feature],
    pictures: Sequence[Feature],
    request: Request,
) -> Iterator[Fault]:
    path = episode.data_path
    name = str(path.relative_to(folder))
    if not path.is_file():
        yield Fault("missing_file", demo, f"expected the file {name}, found none", _COPY, "data")
        return
    try:
        with clear_errors(path, READERS):
            present, rows = tables.names(path), tables.rows(path, episode.index)
    except DataError as error:
        yield _unreadable(demo, error, path, "data")
        return
    n_rows = rows.stop - rows.start
    if n_rows != episode.length:
        problem = f"expected {episode.length} rows in {name}, as in meta/episodes, found {n_rows}"
        yield Fault("length", demo, problem, "The copy is incomplete: copy the data set again.", "data")
        return
    for feature in pictures:
        if feature.name not in present:
            yield _missing(demo, name, feature.name)
    for feature in vectors:
        if feature.name not in present:
            yield _missing(demo, name, feature.name)
            continue
        try:
            with clear_errors(path, READERS):
                values = tables.numbers(path, feature.name)[rows]
        except DataError as error:
            yield _unreadable(demo, error, path, feature.name)
            continue
        size = int(np.prod(feature.shape))
        if values.shape[1] != size:
            problem = f"expected {feature.name} of size {size}, as in {INFO}, found {values.shape[1]}"
            yield Fault("shape", demo, problem, "Remove the episodes of another size.", feature.name)
            continue
        fault = not_finite(demo, feature.name, values)
        if fault is None and feature.name == "action" and request.unscaled_actions:
            fault = not_scaled(demo, values)
        if fault is not None:
            yield fault
    yield from _time_faults(meta, tables, demo, episode, present, rows)


def _time_faults(
    meta: LeRobotMeta, tables: Tables, demo: str, episode: Episode, present: Sequence[str], rows: slice
) -> Iterator[Fault]:
    for name in ("timestamp", "task_index"):
        if name not in present:
            yield _missing(demo, episode.data_path.name, name)
            return
    seconds = tables.numbers(episode.data_path, "timestamp")[rows, 0].astype(np.float64)
    late = np.abs(seconds - seconds[0] - np.arange(len(seconds)) / meta.fps)
    if not (late <= 0.5 / meta.fps).all():  # NaN compares false
        step = int(np.argmax(~(late <= 0.5 / meta.fps)))
        problem = f"expected the time {step / meta.fps:.4f} s, from fps {meta.fps:g}, found {seconds[step]:.4f} s"
        advice = f"Correct fps in {INFO}, or remove the episode."
        yield Fault("fps", f"{demo}, step {step}", problem, advice, "timestamp")
    indices = tables.numbers(episode.data_path, "task_index")[rows, 0]
    if ((indices < 0) | (indices >= len(meta.tasks))).any():
        problem = f"expected task_index below {len(meta.tasks)}, as in meta/tasks, found {indices.max():g}"
        yield Fault("task", demo, problem, _COPY, "task_index")


def _video_faults(
    folder: Path,
    meta: LeRobotMeta,
    demo: str,
    episode: Episode,
    feature: Feature,
    videos: dict[Path, VideoFacts | Fault],
) -> Iterator[Fault]:
    path = episode.video_paths[feature.name]
    name = str(path.relative_to(folder))
    if path not in videos:
        videos[path] = _probed(demo, path, name, feature)
    facts = videos[path]
    if isinstance(facts, Fault):
        yield Fault(facts.rule, demo, facts.problem, facts.advice, feature.name)
        return
    if facts.fps and abs(facts.fps - meta.fps) > 0.01 * meta.fps:
        problem = f"expected {meta.fps:g} frames per second in {name}, as in {INFO}, found {facts.fps:g}"
        yield Fault("fps", demo, problem, f"Correct fps in {INFO}, or encode the video again.", feature.name)
    if facts.shape != feature.shape[:2]:
        problem = f"expected frames of {feature.shape[:2]} in {name}, as in {INFO}, found {facts.shape}"
        yield Fault("shape", demo, problem, f"Correct the shape in {INFO}, or remove the episode.", feature.name)
    end = round(episode.video_starts[feature.name] * meta.fps) + episode.length
    alone = meta.version[0] == 2
    if facts.n_frames and (facts.n_frames < end or (alone and facts.n_frames != end)):
        problem = f"expected {end} frames in {name}, found {facts.n_frames}"
        yield Fault("length", demo, problem, "The video is cut short or edited: copy it again.", feature.name)


def _probed(demo: str, path: Path, name: str, feature: Feature) -> VideoFacts | Fault:
    if not path.is_file():
        return Fault("missing_file", demo, f"expected the video {name}, found none", _COPY, feature.name)
    try:
        return probe(path)
    except DataError as error:
        return _unreadable(demo, error, path, feature.name)


def _unreadable(demo: str, error: DataError, path: Path, subject: str) -> Fault:
    problem, _, advice = str(error).removeprefix(f"{path}: ").partition(". ")
    return Fault("damaged", demo, f"{path.name}: {problem}", advice, subject)


def _missing(demo: str, where: str, name: str) -> Fault:
    problem = f"expected a column {name} in {where}, found none"
    return Fault("missing_array", demo, problem, "Remove its key from the configuration, or copy the data again.", name)


def other_faults(folder: Path, meta: LeRobotMeta) -> list[Fault]:
    """Return faults of what lerobot needs and this package does not: statistics and totals."""
    faults = []
    n_steps = sum(episode.length for episode in meta.episodes.values())
    for name, found in (("total_episodes", len(meta.episodes)), ("total_frames", n_steps)):
        if meta.totals.get(name, found) != found:
            problem = f"expected {name} {meta.totals[name]}, found {found} in meta/episodes"
            faults.append(Fault("total", INFO, problem, "The copy is incomplete: copy the data set again.", name))
    per_episode = meta.version == (2, 1)
    name = "meta/episodes_stats.jsonl" if per_episode else "meta/stats.json"
    advice = "Compute the statistics with lerobot, which needs them; this package computes its own."
    path = folder / name
    if not path.is_file():
        return [*faults, Fault("statistics", name, "expected statistics, found no such file", advice, name)]
    with clear_errors(path, READERS):
        text = path.read_text()
        entries = (
            [json.loads(line) for line in text.splitlines() if line.strip()] if per_episode else [json.loads(text)]
        )
    described = [set(entry.get("stats", {}) if per_episode else entry) for entry in entries]
    if per_episode and len(entries) != len(meta.episodes):
        problem = f"expected statistics of {len(meta.episodes)} episodes, found {len(entries)}"
        faults.append(Fault("statistics", name, problem, advice, name))
    wanted = {part.name for part in meta.features.values() if part.is_numeric or part.is_image}
    missing = sorted(wanted - set.intersection(*described)) if described else sorted(wanted)
    if missing:
        problem = f"expected statistics of every feature, found none of {', '.join(missing)}"
        faults.append(Fault("statistics", name, problem, advice, "features"))
    return faults
