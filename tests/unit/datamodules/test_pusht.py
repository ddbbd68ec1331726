"""Push-T's zarr file: exact values, and one message per fault."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import DataError, PushTDataModule
from datamodules.formats.checks import check, summary
from tests.data import write_pusht

zarr = pytest.importorskip("zarr")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_pusht(tmp_path / "pusht.zarr", image_size=8)


def assert_windows_are_the_arrays(path: Path, n_obs_steps: int, horizon: int, **options: object) -> None:
    data = PushTDataModule(
        str(path),
        ["state", "agent_pos", "keypoint"],
        ["img"],
        n_obs_steps=n_obs_steps,
        horizon=horizon,
        validation_fraction=0.0,
        batch_size=10**6,
        **options,  # type: ignore[arg-type]
    )
    arrays = zarr.open_group(str(path), mode="r")
    ends = arrays["meta/episode_ends"][:]
    starts = np.concatenate([[0], ends[:-1]])
    (batch,) = data.predict_dataloader()
    assert len(batch["demo"]) == (ends - starts).sum()
    for row in np.random.default_rng(0).choice(len(batch["demo"]), min(len(batch["demo"]), 20), replace=False):
        first, last = starts[batch["demo"][row]], ends[batch["demo"][row]] - 1
        at = np.clip(first + int(batch["start"][row]) + np.arange(n_obs_steps - 1 + horizon), first, last)
        pick = {name: np.stack([arrays["data"][name][step] for step in at]) for name in arrays["data"]}
        np.testing.assert_array_equal(batch["obs"]["state"][row], pick["state"])
        np.testing.assert_array_equal(batch["obs"]["agent_pos"][row], pick["state"][:, :2])
        np.testing.assert_array_equal(batch["obs"]["keypoint"][row], pick["keypoint"].reshape(len(at), 18))
        np.testing.assert_array_equal(batch["obs"]["img"][row], pick["img"].transpose(0, 3, 1, 2).astype(np.uint8))
        np.testing.assert_array_equal(batch["actions"][row], pick["action"] / 256 - 1)
    assert batch["obs"]["img"].dtype == torch.uint8
    assert batch["actions"].dtype == torch.float32


@pytest.mark.parametrize("cache_images", [True, False])
def test_windows_hold_the_values_of_the_arrays(path: Path, cache_images: bool) -> None:
    assert_windows_are_the_arrays(path, n_obs_steps=3, horizon=4, cache_images=cache_images)


def test_windows_of_a_frame_cache_hold_the_values_of_the_arrays(path: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "frames")
    assert_windows_are_the_arrays(path, n_obs_steps=3, horizon=4, frame_cache=folder)
    (array,) = Path(folder).glob("*/img_8x8.npy")
    # The second time, the images come from the cache: a changed cache shows.
    pixels = np.load(array, mmap_mode="r+")
    pixels[:] = 7
    pixels.flush()
    data = PushTDataModule(str(path), ["state"], ["img"], frame_cache=folder)
    assert all((batch["obs"]["img"] == 7).all() for batch in data.val_dataloader())


def test_a_frame_cache_of_another_white_is_not_used(path: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "frames")
    PushTDataModule(str(path), ["state"], ["img"], frame_cache=folder).setup()
    with pytest.raises(DataError, match="expected images from 0 to 1, found 0 to 255"):
        PushTDataModule(str(path), ["state"], ["img"], frame_cache=folder, image_max=1.0).setup()


def test_official_demonstrations_are_read_exactly() -> None:
    if "DIFFTORI_DATA" not in os.environ:
        pytest.skip("DIFFTORI_DATA is not set: it names a folder with pusht/pusht_cchi_v7_replay.zarr")
    path = Path(os.environ["DIFFTORI_DATA"]) / "pusht/pusht_cchi_v7_replay.zarr"
    data = PushTDataModule(str(path), ["state", "keypoint", "agent_pos"], horizon=1, validation_fraction=0.0)
    arrays = zarr.open_group(str(path), mode="r")["data"]
    batches = list(data.predict_dataloader())
    for key, values in {"state": arrays["state"][:], "keypoint": arrays["keypoint"][:].reshape(-1, 18)}.items():
        np.testing.assert_array_equal(torch.cat([batch["obs"][key] for batch in batches])[:, 0], values)
    np.testing.assert_array_equal(torch.cat([b["actions"] for b in batches])[:, 0], arrays["action"][:] / 256 - 1)


def test_images_from_zero_to_one(path: Path, tmp_path: Path) -> None:
    small = tmp_path / "small.zarr"
    shutil.copytree(path, small)
    images = zarr.open_group(str(small), mode="r+")["data/img"]
    images[:] = images[:] / 255

    def first(file: Path, image_max: float) -> torch.Tensor:
        return next(iter(PushTDataModule(str(file), [], ["img"], image_max=image_max).val_dataloader()))["obs"]["img"]

    assert torch.equal(first(small, 1.0), first(path, 255.0))
    with pytest.raises(DataError, match=r"expected images from 0 to 255, found 0 to 1 .*image_max .*probably 1"):
        first(small, 255.0)
    with pytest.raises(DataError, match=r"expected images from 0 to 1, found 0 to 255 .*image_max"):
        first(path, 1.0)
    assert "expected images from 0 to 255" in str(check(small)[0])


def drop(*names: str) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        for name in names:
            (shutil.rmtree if (path / name).is_dir() else Path.unlink)(path / name)

    return spoil


def write(name: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        group = zarr.open_group(str(path), mode="r+")
        values = change(group[name][:])
        del group[name]
        from tests.data import _zarr_array

        _zarr_array(group, name, values)

    return spoil


def put(at: tuple[int, ...], value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(values: np.ndarray) -> np.ndarray:
        values[at] = value
        return values

    return change


FAULTS = {
    "no_episode_ends": (drop("meta/episode_ends"), r"expected an array meta/episode_ends, found none"),
    "missing_array": (drop("data/state"), r"expected an array data/state, found action, img, keypoint under data"),
    "missing_chunks": (drop("data/action/2.0"), r"expected 6 chunks of data/action, found 5\. .*copy it again"),
    "length": (write("data/state", lambda v: v[:-3]), r"expected 28 steps in data/state, .*, found 25"),
    "shape": (write("data/action", lambda v: v[:, :1]), r"data/action of shape \(steps, 2\), found \(28, 1\)"),
    "episode_ends": (
        write("meta/episode_ends", put((1,), 9)),
        r"episode 1: .*increasing steps, found 9 after 9",
    ),
    "no_demos": (write("meta/episode_ends", lambda v: v[:0]), r"expected at least one episode, found none"),
    "not_finite": (write("data/state", put((4, 1), np.nan)), r"step 4: expected finite numbers in data/state"),
    "action_range": (write("data/action", put((6, 0), 700.0)), r"step 6: expected positions from 0 to 512 .* 700"),
}


@pytest.mark.parametrize("rule", FAULTS)
def test_each_fault_has_one_message(path: Path, rule: str) -> None:
    spoil, message = FAULTS[rule]
    spoil(path)
    with pytest.raises(DataError, match=message) as caught:
        PushTDataModule(str(path), ["state"], ["img"]).setup()
    assert str(path) in str(caught.value)
    assert rule in [fault.rule for fault in check(path)]


def test_arrays_that_are_not_requested_may_be_missing(path: Path) -> None:
    drop("data/keypoint", "data/img")(path)
    PushTDataModule(str(path), ["state"]).setup()


def test_missing_path_and_folder_without_zarr(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder\. Download and unpack https.*pusht.zip"):
        PushTDataModule(str(tmp_path / "none.zarr")).setup()
    with pytest.raises(DataError, match=r"expected a Push-T zarr folder, got a folder"):
        PushTDataModule(str(tmp_path)).setup()


def test_unknown_keys_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"keypoint and agent_pos .*got obs_keys=\['object'\]"):
        PushTDataModule(str(path), ["object"])


def test_the_file_is_not_modified(path: Path) -> None:
    def contents() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    before = contents()
    list(PushTDataModule(str(path), ["state"], ["img"]).train_dataloader())
    check(path)
    assert contents() == before


def test_summary(path: Path) -> None:
    facts = summary(path)
    assert check(path) == []
    assert (facts.n_demos, facts.n_steps, facts.shortest, facts.longest) == (3, 28, 7, 12)
    assert facts.shapes["obs/keypoint"] == (18,)
    assert facts.shapes["obs/img"] == (8, 8, 3)
    assert -1 <= min(facts.action_min) < max(facts.action_max) <= 1
    assert facts.content == "PushT"
