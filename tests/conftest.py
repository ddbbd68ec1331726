from collections.abc import Callable
from pathlib import Path

import pytest

from difftori_pl.cli import run
from tests.data import write_robomimic

SQUARE_OBS = {"object": (14,), "robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,)}
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the keys, shapes and cameras of Square."""
    path = tmp_path_factory.mktemp("data") / "square.hdf5"
    return write_robomimic(path, [18, 20, 19], SQUARE_OBS, CAMERAS, image_size=84)


@pytest.fixture(scope="session")
def quick(square: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Options that make a run small, without a bar, and keep its files out of the way."""
    return [
        f"--data.path={square}",
        "--data.batch_size=3",
        "--data.validation_fraction=0.34",
        "--data.n_workers=0",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.save_dir={tmp_path_factory.mktemp('runs')}",
    ]


@pytest.fixture(scope="session")
def train(quick: list[str]) -> Callable[..., Path]:
    """Train a configuration for two steps and give the last checkpoint."""

    def run_two_steps(config: str, *options: str) -> Path:
        trainer = run(["fit", f"--config={config}", *quick, "--trainer.max_steps=2", *options]).trainer
        return Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]

    return run_two_steps


SMALL = ["--model.policy.hidden_dim=8"]


@pytest.fixture(scope="session")
def low_dim_base(train: Callable[..., Path]) -> Path:
    """A checkpoint of a base policy on low-dimensional observations."""
    return train("bc_rnn_square_low_dim.yaml", *SMALL)


@pytest.fixture(scope="session")
def image_base(train: Callable[..., Path]) -> Path:
    """A checkpoint of a base policy on images."""
    return train("bc_rnn_square.yaml", *SMALL, "--model.policy.encoder=encoder/square_small_conv.yaml")
