"""LeRobot data sets: values against pyarrow and frames against PyAV, in both layouts."""

import json
from pathlib import Path

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats.faults import Request
from datamodules.formats.lerobot_file import LeRobotFile
from tests.lerobot_data import FIXTURES, write_lerobot

av = pytest.importorskip("av")
pq = pytest.importorskip("pyarrow.parquet")

CAMERA = "observation.images.front"
LENGTHS = (24, 27, 30, 33, 36)


def decoded(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def stored(folder: Path, name: str) -> np.ndarray:
    files = sorted(folder.glob("data/*/*.parquet"))
    return np.concatenate([np.array(pq.read_table(file)[name].to_pylist(), np.float32) for file in files])


@pytest.mark.parametrize("name", ["so101_v3", "so101_v21"])
def test_every_value_and_frame_of_real_data_sets(name: str) -> None:
    folder = FIXTURES / name
    file = LeRobotFile(folder)
    assert file.demos() == [f"episode_{i}" for i in range(5)]
    assert [file.length(demo) for demo in file.demos()] == list(LENGTHS)
    for key, column in (("actions", "action"), ("obs/state", "observation.state")):
        values = np.concatenate([file.read(demo, key) for demo in file.demos()])
        np.testing.assert_array_equal(values, stored(folder, column))
    frames = np.concatenate([decoded(path) for path in sorted(folder.glob(f"videos/**/{'*'}.mp4"))])
    assert len(frames) == sum(LENGTHS)
    images = np.concatenate([file.read(demo, "obs/images_front") for demo in file.demos()])
    np.testing.assert_array_equal(images, frames)
    assert len(np.unique(frames.reshape(len(frames), -1), axis=0)) > 100  # a wrong frame would be noticed


def test_the_two_formats_hold_the_same_numbers() -> None:
    new, old = LeRobotFile(FIXTURES / "so101_v3"), LeRobotFile(FIXTURES / "so101_v21")
    for demo in new.demos():
        np.testing.assert_array_equal(new.read(demo, "actions"), old.read(demo, "actions"))
        np.testing.assert_array_equal(new.read(demo, "obs/task"), old.read(demo, "obs/task"))


@pytest.mark.parametrize("name", ["so101_v3", "so101_v21"])
def test_tasks(name: str) -> None:
    file = LeRobotFile(FIXTURES / name)
    assert file.filters() == ["reach another goal", "reach the goal"]
    assert file.filtered("reach the goal") == ["episode_1", "episode_3"]
    np.testing.assert_array_equal(file.read("episode_1", "obs/task"), np.tile([0.0, 1.0], (27, 1)))
    np.testing.assert_array_equal(file.read("episode_2", "obs/task"), np.tile([1.0, 0.0], (30, 1)))
    with pytest.raises(DataError, match="no filter key 'dance'"):
        file.filtered("dance")


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_parts_of_episodes_with_cameras_of_two_sizes_pictures_and_booleans(version: str, tmp_path: Path) -> None:
    values = write_lerobot(
        tmp_path / "set",
        version,
        videos={"front": (48, 64), "wrist": (32, 32)},
        pictures={"top": (20, 30)},
        vectors={"state": ("float32", 3), "touch": ("bool", 1), "buttons": ("bool", 4), "count": ("int64", 1)},
    )
    file = LeRobotFile(tmp_path / "set")
    assert file.file_faults(Request()) == []
    assert file.demo_faults(file.demos(), Request()) == []
    assert file.other_faults() == []
    for begin, demo in zip((0, 9, 21), file.demos(), strict=True):
        part = slice(begin + 2, begin + 6)
        for key, name in (("state", "state"), ("touch", "touch"), ("buttons", "buttons"), ("count", "count")):
            np.testing.assert_array_equal(file.read(demo, f"obs/{key}", 2, 6), values[f"observation.{name}"][part])
        np.testing.assert_array_equal(file.read(demo, "obs/images_top", 2, 6), values["observation.images.top"][part])
        for camera in ("front", "wrist"):
            images = file.read(demo, f"obs/images_{camera}", 2, 6)
            expected = values[f"observation.images.{camera}"][part].astype(int)
            # Compression and the conversion of colours change a plain colour by a few units; neighbours differ by more.
            assert np.abs(images - expected).max() < 12
            assert np.abs(np.diff(expected[:, 0, 0], axis=0)).max(axis=1).min() > 24
            assert file.shape(demo, f"obs/images_{camera}")[1:] == images.shape[1:]


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_a_time_between_two_frames_gets_the_nearest_one(version: str, tmp_path: Path) -> None:
    values = write_lerobot(tmp_path, version, videos={"front": (32, 32)}, jitter=0.045, lengths=(30, 25))
    file = LeRobotFile(tmp_path)
    for begin, demo in ((0, "episode_0"), (30, "episode_1")):
        expected = values["observation.images.front"][begin : begin + file.length(demo)]
        assert np.abs(file.read(demo, "obs/images_front").astype(int) - expected).max() < 12


def test_a_later_frame_is_not_taken_for_a_missing_one(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1", videos={"front": (32, 32)})
    path = tmp_path / "meta/info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps(info | {"fps": 10}))
    shorter = tmp_path / "other"
    write_lerobot(shorter, "v2.1", videos={"front": (32, 32)}, lengths=(6, 12, 7))
    video = "videos/chunk-000/observation.images.front/episode_000000.mp4"
    (tmp_path / video).write_bytes((shorter / video).read_bytes())
    with pytest.raises(DataError, match=r"expected a frame at 0\.6000 s, found the nearest at 0\.5000 s"):
        LeRobotFile(tmp_path).read("episode_0", "obs/images_front")


@pytest.mark.parametrize("template", ["../../{episode_index}.parquet", "/etc/{episode_index}", "data/../../x.parquet"])
def test_paths_stay_inside_the_folder(template: str, tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1")
    path = tmp_path / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_path": template}))
    with pytest.raises(DataError, match="expected paths inside the folder"):
        LeRobotFile(tmp_path).demos()


def test_a_template_reads_no_attributes(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1")
    path = tmp_path / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"data_path": "{episode_index.__class__}"}))
    data_path = LeRobotFile(tmp_path).meta.episodes["episode_0"].data_path
    assert data_path.name == "{episode_index.__class__}"


def test_the_metadata_of_a_later_format(tmp_path: Path) -> None:
    write_lerobot(tmp_path, "v2.1")
    path = tmp_path / "meta/info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"codebase_version": "v4.0"}))
    with pytest.raises(DataError, match=r"expected LeRobot format v2\.0, v2\.1 or v3\.0, got v4\.0"):
        LeRobotFile(tmp_path).demos()


def test_the_content_of_a_data_set_in_words(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "one", tasks=["push"], fps=25)
    assert LeRobotFile(tmp_path / "one").content() == "unknown robot at 25 steps per second, 1 task ('push')"
    write_lerobot(tmp_path / "many", lengths=[3] * 4, tasks=["a", "b", "c", "d"])
    info = tmp_path / "many/meta/info.json"
    info.write_text(json.dumps(json.loads(info.read_text()) | {"robot_type": "aloha"}))
    assert LeRobotFile(tmp_path / "many").content() == "aloha at 10 steps per second, 4 tasks ('a', 'b', 'c', ...)"
