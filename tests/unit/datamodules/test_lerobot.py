"""`LeRobotDataModule`: batches, split by task, scaling of actions, and what the interface records."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.actions.scaling import ActionScaling
from datamodules.errors import DataError
from datamodules.formats.lerobot_file import LeRobotFile
from datamodules.lerobot import LeRobotDataModule
from tests.lerobot_data import FIXTURES, write_lerobot

pytest.importorskip("av")
pytest.importorskip("pyarrow")

V3 = FIXTURES / "so101_v3"


def made(path: Path, folder: Path, **options: object) -> LeRobotDataModule:
    options = {"action_dim": 6, "horizon": 1, "validation_fraction": 0.0, "frame_cache": str(folder)} | options
    return LeRobotDataModule(str(path), **options)  # type: ignore[arg-type]


def in_order(data: LeRobotDataModule) -> dict[str, torch.Tensor]:
    """Return all steps of the training episodes in order, with windows of one step."""
    batches = list(data.predict_dataloader())
    found = {key: torch.cat([batch["obs"][key] for batch in batches])[:, 0] for key in batches[0]["obs"]}
    return found | {"actions": torch.cat([batch["actions"] for batch in batches])[:, 0]}


@pytest.mark.parametrize("name", ["so101_v3", "so101_v21"])
def test_batches_equal_the_file_and_restored_actions_its_units(name: str, tmp_path: Path) -> None:
    file = LeRobotFile(FIXTURES / name)
    data = made(FIXTURES / name, tmp_path, obs_keys=["state", "task"], image_keys=["images_front"])
    steps = in_order(data)
    stored = {key: np.concatenate([file.read(demo, f"obs/{key}") for demo in file.demos()]) for key in data.obs_specs}
    for key in ("state", "task"):
        np.testing.assert_array_equal(steps[key], stored[key])
    np.testing.assert_array_equal(steps["images_front"], stored["images_front"].transpose(0, 3, 1, 2))
    actions = np.concatenate([file.read(demo, "actions") for demo in file.demos()])
    assert np.abs(actions).max() > 50  # degrees
    scaling = ActionScaling.from_interface(data.interface)
    assert scaling is not None
    assert float(steps["actions"].abs().max()) == pytest.approx(1 / 1.05, rel=1e-5)
    np.testing.assert_allclose(scaling.restore(steps["actions"]), actions, rtol=0, atol=1e-4)


def test_the_scaling_is_that_of_the_training_episodes(tmp_path: Path) -> None:
    data = made(V3, tmp_path, validation_fraction=0.4, action_margin=0.0)
    data.setup()
    training = torch.cat([batch["actions"] for batch in data.train_dataloader()])
    assert float(training.abs().max()) == pytest.approx(1.0)
    everything = ActionScaling.from_interface(made(V3, tmp_path, action_margin=0.0).interface)
    assert ActionScaling.from_interface(data.interface) != everything


def test_an_image_size_applies_to_all_cameras(tmp_path: Path) -> None:
    write_lerobot(tmp_path / "set", videos={"front": (48, 64)}, pictures={"top": (20, 30)})
    data = made(
        tmp_path / "set", tmp_path, action_dim=3, image_keys=["images_front", "images_top"], image_size=(16, 24)
    )
    assert {key: spec.shape for key, spec in data.obs_specs.items() if spec.kind == "image"} == {
        "images_front": (3, 16, 24),
        "images_top": (3, 16, 24),
    }
    native = made(tmp_path / "set", tmp_path, action_dim=3, image_keys=["images_front", "images_top"])
    assert native.obs_specs["images_front"].shape == (3, 48, 64)
    assert native.obs_specs["images_top"].shape == (3, 20, 30)


def test_a_task_filter(tmp_path: Path) -> None:
    data = made(V3, tmp_path, task_filter="reach the goal", obs_keys=["task"])
    steps = in_order(data)
    assert len(steps["task"]) == 27 + 33
    assert (steps["task"] == torch.tensor([0.0, 1.0])).all()
    with pytest.raises(DataError, match="no filter key 'dance'"):
        made(V3, tmp_path, task_filter="dance").setup()


def test_the_interface_names_the_features(tmp_path: Path) -> None:
    data = made(V3, tmp_path, obs_keys=["state", "task"], image_keys=["images_front"], action_scaling="min_max")
    interface = dict(data.interface)
    assert interface.pop("action_scaling")["method"] == "min_max"
    assert interface.pop("action_rotations") == []
    assert interface == {
        "fps": 30.0,
        "obs/state": "observation.state",
        "obs/images_front": "observation.images.front",
        "tasks": ["reach another goal", "reach the goal"],
    }


def test_degrees_without_scaling_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected actions in \[-1, 1\], found .* Set data.init_args.action_scaling"):
        made(V3, tmp_path, action_scaling="none").setup()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"action_dim": 7}, "expected actions of size 7, found 6"),
        ({"obs_keys": ["observation.state"]}, "expected obs_keys out of state, task, found observation.state"),
        ({"image_keys": ["images_wrist"]}, "expected image_keys out of images_front, found images_wrist"),
        ({"image_size": 0}, "image_size must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        made(V3, tmp_path, **options).setup()


def test_worker_processes_read_the_cache(tmp_path: Path) -> None:
    options = {"image_keys": ["images_front"], "batch_size": 50}
    alone, two = (in_order(made(V3, tmp_path, n_workers=n, **options)) for n in (0, 2))
    assert torch.equal(alone["images_front"], two["images_front"])
