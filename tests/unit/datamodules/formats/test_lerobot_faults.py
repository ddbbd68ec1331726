"""`difftori data check` on LeRobot data sets: one test per fault, and all faults at once."""

import json
import re
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats.checks import check
from datamodules.lerobot import LeRobotDataModule
from difftori_pl.cli import main
from tests.lerobot_data import write_json, write_lerobot, write_video

pytest.importorskip("av")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

DATA = "data/chunk-000/episode_000001.parquet"
VIDEO = "videos/chunk-000/observation.images.front/episode_000001.mp4"
WITHOUT_TRAINING = {"statistics", "total"}
"""Rules of faults that do not prevent training."""


def rewrite(column: str, change: Callable[[list[Any]], list[Any]]) -> Callable[[Path], None]:
    """Change the values of a column of one parquet file."""

    def apply(folder: Path) -> None:
        table = pq.read_table(folder / DATA)
        values = pa.array(change(table[column].to_pylist()))
        pq.write_table(table.set_column(table.schema.get_field_index(column), column, values), folder / DATA)

    return apply


def info(**changes: object) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        path = folder / "meta/info.json"
        write_json(path, json.loads(path.read_text()) | changes)

    return apply


def shorter_table(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / DATA).slice(0, 10), folder / DATA)


def without_column(folder: Path) -> None:
    pq.write_table(pq.read_table(folder / DATA).drop_columns("observation.state"), folder / DATA)


def video(n_frames: int = 12, fps: int = 10, size: int = 32) -> Callable[[Path], None]:
    return lambda folder: write_video(folder / VIDEO, np.zeros((n_frames, size, size, 3), np.uint8), fps)


def without_statistics_of_one_feature(folder: Path) -> None:
    path = folder / "meta/episodes_stats.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    del rows[1]["stats"]["action"]
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def unknown_codec(folder: Path) -> None:
    """Give the video a codec name for which FFmpeg has no decoder; the container stays valid."""
    path = folder / VIDEO
    data = path.read_bytes()
    at = data.index(b"avc1", data.index(b"stsd"))
    path.write_bytes(data[:at] + b"zzz9" + data[at + 4 :])


FAULTS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "a missing video": (lambda folder: (folder / VIDEO).unlink(), "missing_file", r"expected the video .*000001\.mp4"),
    "a missing table": (
        lambda folder: (folder / DATA).unlink(),
        "missing_file",
        r"expected the file .*parquet",
    ),
    "a truncated table": (lambda folder: (folder / DATA).write_bytes(b"PAR1" * 9), "damaged", "cannot be read"),
    "a short table": (shorter_table, "length", r"expected 12 rows in .*, as in meta/episodes, found 10"),
    "a short video": (video(n_frames=9), "length", r"expected 12 frames in .*000001\.mp4, found 9"),
    "a damaged video": (lambda folder: (folder / VIDEO).write_bytes(b"x" * 999), "damaged", "that FFmpeg can decode"),
    "a codec that cannot be decoded": (
        unknown_codec,
        "damaged",
        r"000001\.mp4: expected a video that FFmpeg can decode, got codec unknown .* encode it with H\.264 or AV1",
    ),
    "another frame rate": (video(fps=25), "fps", r"expected 10 frames per second in .*, found 25"),
    "other frame sizes": (video(size=48), "shape", r"expected frames of \(32, 32\) in .*, found \(48, 48\)"),
    "other times": (
        rewrite("timestamp", lambda values: [2 * value for value in values]),
        "fps",
        r"expected the time 0\.1000 s, from fps 10, found 0\.2000 s",
    ),
    "no statistics": (
        lambda folder: (folder / "meta/episodes_stats.jsonl").unlink(),
        "statistics",
        "expected statistics, found no such file",
    ),
    "no statistics of a feature": (without_statistics_of_one_feature, "statistics", "found none of action"),
    "a feature that changes size": (
        rewrite("observation.state", lambda rows: [[*row, 0.0] for row in rows]),
        "shape",
        r"expected observation\.state of size 3, as in meta/info\.json, found 4",
    ),
    "rows of several sizes": (
        rewrite("observation.state", lambda rows: [row[: 2 + (i > 5)] for i, row in enumerate(rows)]),
        "damaged",
        "expected lists of one size, found sizes from 2 to 3",
    ),
    "a missing column": (without_column, "missing_array", r"expected a column observation\.state in "),
    "a missing value": (
        rewrite("action", lambda rows: [None, *rows[1:]]),
        "damaged",
        "expected a value in every row, found 1 without",
    ),
    "a NaN": (
        rewrite("action", lambda rows: [[float("nan")] * 3, *rows[1:]]),
        "not_finite",
        "expected finite numbers in action, found nan",
    ),
    "text": (rewrite("action", lambda rows: ["left"] * len(rows)), "damaged", "expected numbers, found string"),
    "an unknown task": (
        rewrite("task_index", lambda rows: [7] * len(rows)),
        "task",
        "expected task_index below 2, as in meta/tasks, found 7",
    ),
    "another total": (info(total_episodes=4), "total", "expected total_episodes 4, found 3 in meta/episodes"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "set", "v2.1", videos={"front": (32, 32)})
    return tmp_path / "set"


def data(folder: Path) -> LeRobotDataModule:
    return LeRobotDataModule(
        str(folder), 3, image_keys=["images_front"], validation_fraction=0.0, frame_cache=str(folder.parent / "cache")
    )


def test_a_valid_data_set_has_no_faults(folder: Path) -> None:
    assert check(folder) == []


@pytest.mark.parametrize("name", FAULTS)
def test_one_fault(name: str, folder: Path) -> None:
    damage, rule, message = FAULTS[name]
    damage(folder)
    (fault,) = check(folder)
    assert fault.rule == rule
    assert re.search(message, str(fault)), str(fault)
    with nullcontext() if rule in WITHOUT_TRAINING else pytest.raises(DataError, match=message):
        data(folder).setup()


def test_all_faults_at_once(folder: Path) -> None:
    (folder / VIDEO).unlink()
    (folder / VIDEO.replace("1.mp4", "0.mp4")).write_bytes(b"")
    write_video(folder / VIDEO.replace("1.mp4", "2.mp4"), np.zeros((7, 32, 32, 3), np.uint8), 25)
    shorter_table(folder)
    (folder / "meta/episodes_stats.jsonl").unlink()
    found = {(fault.rule, fault.subject) for fault in check(folder)}
    camera = "observation.images.front"
    assert found == {
        ("missing_file", camera),
        ("damaged", camera),
        ("fps", camera),
        ("length", "data"),
        ("statistics", "meta/episodes_stats.jsonl"),
    }


def test_a_picture_that_is_not_stored(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1", pictures={"top": (8, 8)})
    rewrite("observation.images.top", lambda rows: [{"bytes": None, "path": "/etc/passwd"} for _ in rows])(tmp_path)
    (fault,) = check(tmp_path)
    assert "expected the bytes of a picture in each row, got a path or nothing" in str(fault)


def test_no_episodes(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1")
    (tmp_path / "meta/episodes.jsonl").write_text("")
    (fault,) = check(tmp_path)
    assert fault.rule == "no_demos"


def test_damaged_metadata(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1")
    (tmp_path / "meta/info.json").write_text('{"codebase_version": "v2.1"}')
    (fault,) = check(tmp_path)
    assert "expected codebase_version, fps and features as LeRobot writes them, got KeyError: 'features'" in str(fault)


def test_images_without_colours(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1", pictures={"top": (8, 8)})
    features = json.loads((tmp_path / "meta/info.json").read_text())["features"]
    features["observation.images.top"]["shape"] = [8, 8, 1]
    info(features=features)(tmp_path)
    (fault,) = check(tmp_path)
    assert "expected images (height, width, 3) in observation.images.top, found (8, 8, 1)" in str(fault)


@pytest.fixture
def v3(tmp_path: Path) -> Path:
    write_lerobot(tmp_path / "set", "v3.0", videos={"front": (32, 32)})
    return tmp_path / "set"


def test_a_video_of_several_episodes_that_is_too_short(v3: Path) -> None:
    (path,) = v3.glob("videos/*/*/*.mp4")
    write_video(path, np.zeros((20, 32, 32, 3), np.uint8), 10)
    faults = check(v3)
    # The video ends in the second episode; the first one is complete.
    assert {fault.rule for fault in faults} == {"length"}
    assert re.search(r"episode_1.* expected \d+ frames in .*file-000\.mp4, found 20", str(faults[0]))
    assert not any("episode_0" in str(fault) for fault in faults)
    with pytest.raises(DataError, match=r"frames in .*file-000\.mp4, found 20"):
        data(v3).setup()


def without_file(folder: Path) -> None:
    (folder / "meta/stats.json").unlink()


def without_actions(folder: Path) -> None:
    path = folder / "meta/stats.json"
    statistics = json.loads(path.read_text())
    del statistics["action"]
    write_json(path, statistics)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without_file, r"meta/stats\.json: expected statistics, found no such file"),
        (without_actions, r"expected statistics of every feature, found none of action"),
    ],
)
def test_actions_without_statistics(v3: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(v3)
    (fault,) = check(v3)
    assert fault.rule == "statistics"
    assert re.search(message, str(fault)), str(fault)
    # Training computes its own statistics of the training episodes.
    assert data(v3).interface["action_scaling"]["method"] == "min_max"


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a LeRobot data set, got a folder"):
        data(tmp_path).setup()
    with pytest.raises(DataError, match=r"no such folder\. Download one with"):
        data(tmp_path / "none").setup()
    (fault,) = check(tmp_path)
    assert fault.rule == "unreadable"


@pytest.mark.parametrize("version", ["v1.6", "v4.0"])
def test_a_version_of_the_format_that_is_not_known(folder: Path, version: str) -> None:
    info(codebase_version=version)(folder)
    (fault,) = check(folder)
    message = rf"expected LeRobot format v2\.0, v2\.1 or v3\.0, got {version}"
    assert re.search(message, str(fault)), str(fault)
    with pytest.raises(DataError, match=message):
        data(folder).setup()


def test_the_command_prints_every_fault(folder: Path) -> None:
    (folder / VIDEO).unlink()
    (folder / "meta/episodes_stats.jsonl").unlink()
    with pytest.raises(SystemExit) as caught:
        main(["data", "check", str(folder)])
    printed = str(caught.value.code)
    assert "expected the video" in printed
    assert "expected statistics, found no such file" in printed
    assert f"2 kinds of fault in {folder}" in printed
