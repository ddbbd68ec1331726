"""Our windows equal robomimic's element by element, and Lightning's Trainer can use the datamodule."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import lightning
import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import Batch, RobomimicDataModule
from difftori_pl import load_policy
from difftori_pl.cli import run
from tests import layouts
from tests.data import OBS_SHAPES, write_robomimic

IMAGE = "agentview_image"
SQUARE_KEYS = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
# (n_obs_steps, horizon, pad_obs, pad_horizon); the shortest generated demo has 7 steps.
WINDOWS = [
    (1, 1, True, True),
    (1, 10, True, True),
    (3, 1, True, True),
    (3, 5, True, True),
    (3, 5, False, True),
    (3, 5, True, False),
    (3, 5, False, False),
    (9, 12, True, True),
]


def sequence_dataset(path: Path, obs_keys: list[str], window: tuple[int, int, bool, bool]) -> Any:
    """Return robomimic's dataset with the same windows."""
    with warnings.catch_warnings():
        # robomimic's imports warn about deprecated interfaces of numpy and torchvision.
        warnings.simplefilter("ignore")
        dataset = pytest.importorskip("robomimic.utils.dataset", exc_type=ImportError)
    n_obs_steps, horizon, pad_obs, pad_horizon = window
    return dataset.SequenceDataset(
        hdf5_path=str(path),
        obs_keys=obs_keys,
        dataset_keys=("actions", "rewards", "dones"),
        frame_stack=n_obs_steps,
        seq_length=horizon,
        pad_frame_stack=pad_obs,
        pad_seq_length=pad_horizon,
        get_pad_mask=True,
        hdf5_cache_mode="all",
        hdf5_use_swmr=False,
        load_next_obs=True,
    )


def our_batch(
    path: Path, obs_keys: list[str], image_keys: list[str], window: tuple[int, int, bool, bool], in_memory: bool
) -> Batch:
    n_obs_steps, horizon, pad_obs, pad_horizon = window
    data = RobomimicDataModule(
        str(path),
        obs_keys,
        7,
        image_keys,
        horizon=horizon,
        n_obs_steps=n_obs_steps,
        pad_obs=pad_obs,
        pad_horizon=pad_horizon,
        batch_size=10**6,
        validation_fraction=0.0,
        cache_low_dim=in_memory,
        cache_images=in_memory,
        load_next_obs=True,
        load_rewards=True,
    )
    (batch,) = data.predict_dataloader()
    return batch


def assert_same_windows(batch: Batch, theirs: Any) -> None:
    def same(ours: Tensor, values: list[np.ndarray]) -> None:
        np.testing.assert_array_equal(ours.numpy(), np.stack(values).astype(ours.numpy().dtype))

    assert len(batch["demo"]) == len(theirs)
    windows = [theirs[i] for i in range(len(theirs))]
    same(batch["mask"], [window["pad_mask"][:, 0] for window in windows])
    for name in ("actions", "rewards", "dones"):
        same(batch[name], [window[name] for window in windows])
    for name in ("obs", "next_obs"):
        assert {*batch[name], "pad_mask"} == set(windows[0][name])
        for key, values in batch[name].items():
            # robomimic moves the channels to the front later, in the training loop.
            same(values.movedim(-3, -1) if key == IMAGE else values, [window[name][key] for window in windows])


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Eleven demos, so that demo_10 follows demo_9 and not demo_1.
    lengths = [7, 8, 9, 7, 8, 9, 10, 7, 8, 12, 11]
    return write_robomimic(tmp_path_factory.mktemp("data") / "demos.hdf5", lengths, image_keys=[IMAGE])


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_equal_those_of_robomimic(generated: Path, window: tuple[int, int, bool, bool]) -> None:
    theirs = sequence_dataset(generated, [*OBS_SHAPES, IMAGE], window)
    ours = our_batch(generated, list(OBS_SHAPES), [IMAGE], window, in_memory=True)
    from_file = our_batch(generated, list(OBS_SHAPES), [IMAGE], window, in_memory=False)
    torch.testing.assert_close(ours, from_file, rtol=0, atol=0)
    assert_same_windows(ours, theirs)


@pytest.mark.parametrize("window", [(1, 10, True, True), (3, 5, False, False)])
def test_windows_of_human_demonstrations_equal_those_of_robomimic(window: tuple[int, int, bool, bool]) -> None:
    if "DIFFTORI_DATA" not in os.environ:
        pytest.skip("set DIFFTORI_DATA to a folder with robomimic/square/ph/low_dim.hdf5")
    path = Path(os.environ["DIFFTORI_DATA"]) / "robomimic/square/ph/low_dim.hdf5"
    theirs = sequence_dataset(path, SQUARE_KEYS, window)
    ours = our_batch(path, SQUARE_KEYS, [], window, in_memory=True)
    assert_same_windows(ours, theirs)


def quiet_trainer(test: Any) -> Any:
    """Ignore warnings that Lightning 2.6 itself causes."""
    for message in (
        "ignore:.*does not have many workers:UserWarning",
        "ignore:Checkpoint directory .* exists and is not empty:UserWarning",
        "ignore:.*LeafSpec.* is deprecated:FutureWarning",
        "ignore:The number of training batches .* is smaller than the logging interval:UserWarning",
    ):
        test = pytest.mark.filterwarnings(message)(test)
    return test


class Regression(lightning.LightningModule):
    """A linear policy that records the windows of its training batches."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(5, 7)
        self.seen: list[list[int]] = []

    def training_step(self, batch: Batch) -> Tensor:
        self.seen.append((batch["demo"] * 100 + batch["start"]).tolist())
        return (self.linear(batch["obs"]["object"]) - batch["actions"]).square().mean()

    def validation_step(self, batch: Batch) -> None:
        assert not batch["actions"].requires_grad

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(path: Path, folder: Path, max_epochs: int, checkpoint: Path | None = None, **arguments: Any) -> Regression:
    lightning.seed_everything(1)
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=max_epochs,
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    model = Regression()
    trainer.fit(
        model, datamodule=RobomimicDataModule(str(path), ["object"], 7, batch_size=6, **arguments), ckpt_path=checkpoint
    )
    trainer.save_checkpoint(folder / "last.ckpt")
    return model


@quiet_trainer
def test_a_resumed_fit_has_the_batches_of_an_uninterrupted_one(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5")
    whole = fit(path, tmp_path / "whole", 3)
    first = fit(path, tmp_path / "parts", 1)
    rest = fit(path, tmp_path / "parts", 3, tmp_path / "parts/last.ckpt")
    assert first.seen + rest.seen == whole.seen
    torch.testing.assert_close(rest.linear.weight, whole.linear.weight, rtol=0, atol=0)


@quiet_trainer
@pytest.mark.filterwarnings("ignore:Total length of `list` across ranks is zero:UserWarning")
def test_fit_without_validation_demos(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5")
    assert fit(path, tmp_path, 1, validation_fraction=0.0, n_workers=2).seen


@pytest.mark.parametrize(
    ("write", "sizes"),
    [
        (layouts.write_isaaclab, {"policy/joint_pos": 9, "subtask_terms/grasp_1": 1}),
        (layouts.write_libero, {"ee_states": 6, "gripper_states": 2}),
    ],
)
def test_a_policy_trains_on_the_keys_of_other_recorders(
    write: Callable[[Path], Path], sizes: dict[str, int], quick: list[str], tmp_path: Path
) -> None:
    path = write(tmp_path / "demos.hdf5")
    options = [
        f"--data.path={path}",
        f"--data.obs_keys={list(sizes)}",
        f"--model.policy.encoder.obs_dims={sizes}",
        "--model.policy.hidden_dim=8",
        "--rollout.env=null",
        "--trainer.max_steps=1",
    ]
    trainer = run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *options]).trainer
    policy = load_policy(trainer.checkpoint_callback.last_model_path)
    with h5py.File(path, "r") as file:
        first = {key: np.atleast_1d(file[f"data/demo_0/obs/{key}"][0]) for key in sizes}
    assert policy.act(first).shape == (7,)
