"""The cache of decoded images: contents, resumption, and changes of the data."""

import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile
from datamodules.formats.robomimic_file import RobomimicFile
from datamodules.windowing import frame_cache
from datamodules.windowing.frame_cache import FrameCache, scale_images
from tests.data import write_robomimic

KEY = "obs/image"


@pytest.fixture
def file(tmp_path: Path) -> RobomimicFile:
    return RobomimicFile(write_robomimic(tmp_path / "demos.hdf5", (9, 12, 7), image_keys=["image"]))


def cache(file: DemoFile, folder: Path, size: tuple[int, int] | None = None, identity: str = "a") -> FrameCache:
    return FrameCache(folder, identity, file, KEY, size)


def reads(file: RobomimicFile, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record the demos that are read."""
    found: list[str] = []
    read = file.read

    def recorded(demo: str, *arguments: object) -> np.ndarray:
        found.append(demo)
        return read(demo, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(file, "read", recorded)
    return found


def test_windows_equal_those_of_the_file(file: RobomimicFile, tmp_path: Path) -> None:
    demos = ["demo_2", "demo_0"]
    column = cache(file, tmp_path).column(demos)
    assert column.step_shape == (8, 8, 3)
    for values, demo in zip(column.episodes(), demos, strict=True):
        np.testing.assert_array_equal(values, file.read(demo, KEY))
    windows = column.gather(np.array([1, 0, 1]), np.array([[0, 0, 1], [4, 5, 6], [6, 7, 8]]))
    expected = [file.read("demo_0", KEY)[[0, 0, 1]], file.read("demo_2", KEY)[4:7], file.read("demo_0", KEY)[6:9]]
    np.testing.assert_array_equal(windows, expected)
    assert windows.flags.writeable


def test_images_are_scaled(file: RobomimicFile, tmp_path: Path) -> None:
    column = cache(file, tmp_path, (4, 6)).column(["demo_0"])
    assert column.step_shape == (4, 6, 3)
    (values,) = column.episodes()
    np.testing.assert_array_equal(values, scale_images(file.read("demo_0", KEY), (4, 6)))
    plain = np.full((1, 8, 8, 3), (10, 200, 30), np.uint8)
    np.testing.assert_array_equal(scale_images(plain, (3, 5)), np.broadcast_to(plain[:, :1, :1], (1, 3, 5, 3)))


def test_only_new_demos_are_decoded(file: RobomimicFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache(file, tmp_path).column(["demo_1"])
    found = reads(file, monkeypatch)
    cache(file, tmp_path).column(["demo_0", "demo_1"])
    assert found == ["demo_0"]


def test_an_interrupted_call_is_resumed(file: RobomimicFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = file.read

    def interrupted(demo: str, *arguments: object) -> np.ndarray:
        if demo == "demo_1":
            raise KeyboardInterrupt
        return read(demo, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(file, "read", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache(file, tmp_path).column(file.demos())
    found = reads(file, monkeypatch)
    column = cache(file, tmp_path).column(file.demos())
    assert found == ["demo_1", "demo_2"]
    for values, demo in zip(column.episodes(), file.demos(), strict=True):
        np.testing.assert_array_equal(values, read(demo, KEY))


def test_another_data_set_gets_another_cache(file: RobomimicFile, tmp_path: Path) -> None:
    assert cache(file, tmp_path).path != cache(file, tmp_path, identity="b").path
    assert cache(file, tmp_path).path != cache(file, tmp_path, (4, 4)).path


def test_a_truncated_cache_is_written_again(file: RobomimicFile, tmp_path: Path) -> None:
    made = cache(file, tmp_path)
    made.column(file.demos())
    made.path.write_bytes(made.path.read_bytes()[:200])
    (values,) = cache(file, tmp_path).column(["demo_0"]).episodes()
    np.testing.assert_array_equal(values, file.read("demo_0", KEY))


def test_a_pickled_column_does_not_contain_the_images(file: RobomimicFile, tmp_path: Path) -> None:
    column = cache(file, tmp_path).column(file.demos())
    assert len(pickle.dumps(column)) < 1000
    np.testing.assert_array_equal(next(pickle.loads(pickle.dumps(column)).episodes()), next(column.episodes()))


def test_a_full_disk_is_reported_before_decoding(
    file: RobomimicFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_cache.shutil, "disk_usage", lambda path: SimpleNamespace(free=10))
    with pytest.raises(DataError, match=r"GB of free space for decoded images, got 0\.0 GB\. Set a smaller"):
        cache(file, tmp_path).column(["demo_0"])


def test_a_folder_that_cannot_be_made(file: RobomimicFile, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(DataError, match="the cache of decoded images cannot be written"):
        cache(file, tmp_path / "cache").column(["demo_0"])
