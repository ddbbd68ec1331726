import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules import Batch, DataError, ObservationSpec, RobomimicDataModule
from datamodules.formats.demo_file import natural_order
from datamodules.formats.robomimic_file import RobomimicFile
from tests.data import ENV_META, write_robomimic

IMAGE = "agentview_image"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_robomimic(tmp_path / "demos.hdf5", lengths=[9, 12, 7, 5], image_keys=[IMAGE])


def datamodule(path: Path, **arguments: object) -> RobomimicDataModule:
    defaults = {"obs_keys": ["object"], "image_keys": [IMAGE], "action_dim": 7, "horizon": 4, "batch_size": 8}
    return RobomimicDataModule(path=str(path), **{**defaults, **arguments})


def train_batches(data: RobomimicDataModule, epoch: int = 0) -> list[Batch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_equal(some: list[Batch], others: list[Batch]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_batch_contract(path: Path) -> None:
    data = datamodule(path, n_obs_steps=3, load_next_obs=True, load_rewards=True)
    batch = next(iter(data.train_dataloader()))
    n, width = 8, 6
    shapes = {"object": (n, width, 5), IMAGE: (n, width, 3, 8, 8)}
    for group in (batch["obs"], batch["next_obs"]):
        assert {key: tuple(value.shape) for key, value in group.items()} == shapes
        assert {key: value.dtype for key, value in group.items()} == {"object": torch.float32, IMAGE: torch.uint8}
    expected = {
        "actions": ((n, width, 7), torch.float32),
        "mask": ((n, width), torch.bool),
        "demo": ((n,), torch.int64),
        "start": ((n,), torch.int64),
        "rewards": ((n, width), torch.float32),
        "dones": ((n, width), torch.bool),
    }
    assert {k: (tuple(v.shape), v.dtype) for k, v in batch.items() if k not in ("obs", "next_obs")} == expected


def test_batches_hold_the_values_of_the_file(path: Path) -> None:
    data = datamodule(path, n_obs_steps=2)
    file = RobomimicFile(path)
    for batch in [*train_batches(data), *data.val_dataloader()]:
        for row in range(len(batch["demo"])):
            demo = data.demos[batch["demo"][row]]
            steps = np.clip(int(batch["start"][row]) + np.arange(5), 0, file.length(demo) - 1)
            pixels = file.read(demo, f"obs/{IMAGE}")[steps].transpose(0, 3, 1, 2)
            assert (batch["obs"][IMAGE][row].numpy() == pixels).all()
            assert (batch["actions"][row].numpy() == file.read(demo, "actions")[steps].astype(np.float32)).all()


@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize(("low_dim", "images"), [(False, False), (True, False), (True, True)])
def test_batches_are_identical_with_caches_and_workers(path: Path, low_dim: bool, images: bool, n_workers: int) -> None:
    torch.manual_seed(3)
    plain = train_batches(datamodule(path, load_next_obs=True))
    data = datamodule(path, load_next_obs=True, cache_low_dim=low_dim, cache_images=images, n_workers=n_workers)
    assert_equal(train_batches(data), plain)


@pytest.mark.parametrize("n_workers", [0, 2])
def test_batches_are_identical_with_a_frame_cache(path: Path, n_workers: int, tmp_path: Path) -> None:
    torch.manual_seed(3)
    plain = train_batches(datamodule(path, load_next_obs=True))
    data = datamodule(path, load_next_obs=True, frame_cache=str(tmp_path), n_workers=n_workers)
    assert_equal(train_batches(data), plain)
    assert len(list(tmp_path.rglob("*.npy"))) == 2  # obs and next_obs


def test_two_caches_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected cache_images or frame_cache, got both"):
        datamodule(path, cache_images=True, frame_cache=str(tmp_path))


def test_persistent_workers_and_parent_read_independently(path: Path) -> None:
    torch.manual_seed(3)
    reference = datamodule(path, cache_low_dim=False)
    data = datamodule(path, cache_low_dim=False, n_workers=2)
    next(iter(data.file.handle))  # open in the parent when the workers fork
    loader = data.train_dataloader()
    for epoch in range(3):
        loader.sampler.set_epoch(epoch)
        batches = []
        for batch in loader:
            batches.append(batch)
            data.file.read("demo_0", f"obs/{IMAGE}")
        assert_equal(batches, train_batches(reference, epoch))
    # Lightning's save_hyperparameters leaves the caller's frame in a reference cycle. torch takes five seconds per
    # worker to shut down a loader that the garbage collector finds.
    del loader


def test_order_depends_only_on_seed_and_epoch(path: Path) -> None:
    torch.manual_seed(3)
    first, second = (train_batches(datamodule(path), epoch) for epoch in (0, 1))
    torch.manual_seed(3)
    torch.rand(100)
    assert_equal(train_batches(datamodule(path), 1), second)
    assert not torch.equal(first[0]["start"], second[0]["start"])
    starts = sorted((int(d), int(s)) for batch in first for d, s in zip(batch["demo"], batch["start"], strict=True))
    assert len(starts) == len(set(starts)) == sum(len(batch["demo"]) for batch in second)


def test_split_is_by_demo_and_by_seed(path: Path) -> None:
    def held_out(seed: int, fraction: float = 0.25) -> set[int]:
        data = datamodule(path, split_seed=seed, validation_fraction=fraction)
        train = {int(demo) for batch in train_batches(data) for demo in batch["demo"]}
        validation = {int(demo) for batch in data.val_dataloader() for demo in batch["demo"]}
        assert not train & validation
        assert train | validation == {0, 1, 2, 3}
        return validation

    assert held_out(0) == held_out(0)
    assert len({tuple(held_out(seed)) for seed in range(8)}) > 1
    assert len(held_out(0, 0.5)) == 2
    assert held_out(0, 0.0) == set()


def test_filters_of_the_file(tmp_path: Path) -> None:
    masks = {
        "train": ["demo_2", "demo_0"],
        "valid": ["demo_1"],
        "one": ["demo_2"],
        "all": ["demo_0", "demo_1", "demo_2"],
    }
    path = write_robomimic(tmp_path / "demos.hdf5", image_keys=[IMAGE], masks=masks)

    def demos(**arguments: object) -> tuple[set[int], set[int]]:
        data = datamodule(path, **arguments)
        return tuple(
            {int(d) for b in loader for d in b["demo"]} for loader in (train_batches(data), data.val_dataloader())
        )

    assert demos() == ({0, 2}, {1})
    assert demos(validation_fraction=0.0) == ({0, 1, 2}, set())
    assert demos(train_filter="one", validation_filter="valid") == ({2}, {1})
    assert demos(validation_filter="valid") == ({0, 2}, {1})
    assert demos(train_filter="train", validation_fraction=0.0) == ({0, 2}, set())
    assert demos(n_demos=1) == ({0}, {1})
    with pytest.raises(DataError, match=r"n_demos to be at most the 2 training demos, got 3"):
        demos(n_demos=3)
    with pytest.raises(DataError, match=r"no demo is left to train on"):
        demos(validation_filter="all")


def test_statistics_use_only_the_training_demos(path: Path) -> None:
    data = datamodule(path)
    file = RobomimicFile(path)
    used = {data.demos[int(demo)] for batch in train_batches(data) for demo in batch["demo"]}
    found = data.statistics()
    assert set(found) == {"object", "actions"}
    for key, name in (("object", "obs/object"), ("actions", "actions")):
        values = np.concatenate([file.read(demo, name) for demo in used])
        torch.testing.assert_close(found[key].mean.double(), torch.from_numpy(values.mean(0)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[key].std.double(), torch.from_numpy(values.std(0)), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found[key].max.double(), torch.from_numpy(values.max(0)), rtol=1e-6, atol=1e-6)


def test_metadata_for_the_model(path: Path) -> None:
    data = datamodule(path)
    assert data.obs_specs == {"object": ObservationSpec.vector(5), IMAGE: ObservationSpec.image(3, 8, 8)}
    assert data.env_meta == ENV_META
    assert data.action_dim == 7


def test_the_kind_of_an_observation_follows_from_the_arguments(tmp_path: Path) -> None:
    shapes = {"forces": (3, 4, 4), "cloud": (12, 3), "object": (5,)}
    file = write_robomimic(tmp_path / "demos.hdf5", obs_shapes=shapes, image_keys=[IMAGE])
    data = RobomimicDataModule(str(file), ["forces", "cloud", "object"], 7, [IMAGE], horizon=3, cloud_keys=["cloud"])
    assert data.obs_specs == {
        "forces": ObservationSpec.vector(3, 4, 4),
        "cloud": ObservationSpec.point_cloud(12, 3),
        "object": ObservationSpec.vector(5),
        IMAGE: ObservationSpec.image(3, 8, 8),
    }
    assert set(data.statistics()) == {"forces", "object", "actions"}
    (obs, *_) = [batch["obs"] for batch in data.train_dataloader()]
    assert obs["forces"].shape[2:] == (3, 4, 4)
    assert obs["forces"].dtype == torch.float32


def test_predict_dataloader_returns_held_out_demos_in_order(path: Path) -> None:
    data = datamodule(path)
    assert_equal(list(data.predict_dataloader()), list(data.val_dataloader()))
    everything = list(datamodule(path, validation_fraction=0.0).predict_dataloader())
    demos = torch.cat([batch["demo"] for batch in everything])
    assert demos.tolist() == sorted(demos.tolist())
    assert len(demos) == 9 + 12 + 7 + 5


def test_demo_names_are_in_natural_order(tmp_path: Path) -> None:
    lengths = {"take 10": 4, "take 9": 5, "Ann": 6}
    data = datamodule(write_robomimic(tmp_path / "demos.hdf5", lengths, image_keys=[IMAGE]), validation_fraction=0.0)
    assert data.demos == ["Ann", "take 9", "take 10"]
    assert len(torch.cat([batch["demo"] for batch in train_batches(data)])) == 15
    assert sorted(["demo_10", "demo_2"], key=natural_order) == ["demo_2", "demo_10"]


def test_unpickled_file_reopens(path: Path) -> None:
    file = RobomimicFile(path)
    assert pickle.loads(pickle.dumps(file)).length("demo_1") == file.length("demo_1") == 12
