from collections.abc import Callable
from pathlib import Path

import pytest

from difftori_pl.cli import run
from tests.data import write_pusht, write_robomimic

SQUARE_OBS = {"object": (14,), "robot0_eef_pos": (3,), "robot0_eef_quat": (4,), "robot0_gripper_qpos": (2,)}
CAMERAS = ("agentview_image", "robot0_eye_in_hand_image")
SECOND_ARM = {key.replace("robot0", "robot1"): shape for key, shape in SQUARE_OBS.items() if key != "object"}
ACTION_DIMS = {"square": 7, "tool_hang": 7, "transport": 14, "pusht": 2}


def task_of(config: str) -> str:
    """Return the task of a configuration or fragment."""
    return next(task for task in ACTION_DIMS if task in config)


@pytest.fixture(scope="session")
def square(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a robomimic file with the keys, shapes and cameras of Square."""
    path = tmp_path_factory.mktemp("data") / "square.hdf5"
    return write_robomimic(path, [18, 20, 19], SQUARE_OBS, CAMERAS, image_size=84)


@pytest.fixture(scope="session")
def files(square: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a file for each task, with its keys, shapes and cameras."""
    folder = tmp_path_factory.mktemp("files")
    transport = SQUARE_OBS | SECOND_ARM | {"object": (41,)}
    cameras = [f"{name}_image" for i in (0, 1) for name in (f"shouldercamera{i}", f"robot{i}_eye_in_hand")]
    hang = SQUARE_OBS | {"object": (44,)}
    hang_cameras = ("sideview_image", "robot0_eye_in_hand_image")
    return {
        "square": square,
        "transport": write_robomimic(folder / "transport.hdf5", [4, 3, 5], transport, cameras, 84, action_dim=14),
        "tool_hang": write_robomimic(folder / "tool_hang.hdf5", [4, 3, 5], hang, hang_cameras, image_size=240),
        # Chunks of eight actions need longer demos, which would be slow to write with images.
        "transport_absolute": write_robomimic(
            folder / "transport_low_dim.hdf5", [18, 20, 19], transport, action_dim=14
        ),
        "tool_hang_absolute": write_robomimic(folder / "tool_hang_low_dim.hdf5", [18, 20, 19], hang),
        "pusht": write_pusht(folder / "pusht.zarr", [18, 20, 19]),
    }


@pytest.fixture(scope="session")
def quick(square: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return options for a small, quiet run without rollouts that writes to a temporary folder."""
    return [
        f"--data.path={square}",
        "--data.batch_size=3",
        "--data.validation_fraction=0.34",
        "--data.n_workers=0",
        "--checkpoint.monitor=null",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.save_dir={tmp_path_factory.mktemp('runs')}",
    ]


@pytest.fixture(scope="session")
def train(quick: list[str]) -> Callable[..., Path]:
    """Return a function that trains a configuration for two steps and returns the last checkpoint."""

    def run_two_steps(config: str, *options: str) -> Path:
        trainer = run(["fit", f"--config={config}", *quick, "--trainer.max_steps=2", *options]).trainer
        return Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]

    return run_two_steps


SMALL = ["--model.policy.hidden_dim=8"]


@pytest.fixture(scope="session")
def low_dim_base(train: Callable[..., Path]) -> Path:
    """Train a base policy on low-dimensional observations and return its checkpoint."""
    return train("bc_rnn_square_low_dim.yaml", *SMALL)


@pytest.fixture(scope="session")
def image_base(train: Callable[..., Path]) -> Path:
    """Train a base policy on images and return its checkpoint."""
    return train("bc_rnn_square.yaml", *SMALL, "--model.policy.encoder=encoder/square_small_conv.yaml")
