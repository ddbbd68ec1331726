"""From a recording of ManiSkill3 to actions of its controller: the shipped configurations and load_policy."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules.formats.maniskill3_file import ManiSkill3File
from difftori_pl import load_policy
from difftori_pl.cli import run
from difftori_pl.errors import ConfigurationError
from tests.maniskill3_data import FIXTURE, IMAGE, VECTORS, copy_maniskill3


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        f"--data.path={FIXTURE}",
        "--data.batch_size=50",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.save_dir={tmp_path_factory.mktemp('runs')}",
    ]


@pytest.fixture(scope="module")
def base(options: list[str]) -> Path:
    """Train behaviour cloning for 300 steps and return the checkpoint."""
    longer = ["--trainer.max_steps=300", "--trainer.check_val_every_n_epoch=50"]
    trainer = run(["fit", "--config=bc_maniskill3.yaml", *options, *longer]).trainer
    return Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]


def test_a_policy_acts_from_nested_observations(base: Path) -> None:
    file, policy = ManiSkill3File(FIXTURE), load_policy(base)
    observations = {key: file.read("traj_3", f"obs/{key}") for key in VECTORS}
    actions = np.stack([policy.act({key: values[t] for key, values in observations.items()}) for t in range(26)])
    error = np.sqrt(np.square(actions - file.read("traj_3", "actions")).mean())
    constant = file.read("traj_3", "actions").std(axis=0)
    assert error < 0.7 * np.sqrt(np.square(constant).mean())


def test_difftori_refines_it_and_tests_report_held_out_errors(options: list[str], base: Path) -> None:
    small = [f"--model.base_policy.checkpoint={base}", "--model.trajopt.solver.max_steps=2"]
    trained = run(["fit", "--config=il_maniskill3.yaml", *options, *small, "--trainer.max_steps=2"]).trainer
    last = trained.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    metrics = run(["test", "--config=il_maniskill3.yaml", *options, *small, f"--ckpt_path={last}"]).trainer
    for name in ("held_out/policy/action_error", "held_out/base/action_error"):
        assert torch.isfinite(metrics.callback_metrics[name])


def test_a_policy_of_another_controller_is_refused(options: list[str], base: Path, tmp_path: Path) -> None:
    content = torch.load(base, weights_only=True)
    content["interface"]["control_mode"] = "pd_joint_delta_pos"
    torch.save(content, tmp_path / "other.ckpt")
    other = [f"--model.base_policy.checkpoint={tmp_path / 'other.ckpt'}", "--trainer.fast_dev_run=1"]
    with pytest.raises(ConfigurationError, match=r"control_mode.*pd_joint_delta_pos"):
        run(["fit", "--config=il_maniskill3.yaml", *options, *other])


def test_images_are_observations(options: list[str], tmp_path: Path) -> None:
    path = copy_maniskill3(tmp_path)
    with h5py.File(path, "r+") as file:
        for demo in file.values():
            pixels = demo["obs"][IMAGE][()].repeat(4, axis=1).repeat(4, axis=2)  # 128, ManiSkill3's default
            del demo["obs"][IMAGE]
            demo["obs"][IMAGE] = pixels
    keys = ["agent/qpos", "extra/tcp_pose", "extra/goal_pos"]
    chosen = [
        f"--data.path={path}",
        f"--data.image_keys=[{IMAGE}]",
        f"--data.obs_keys=[{', '.join(keys)}]",
        "--model.policy.encoder=maniskill3/image_encoder.yaml",
        "--trainer.max_steps=1",
    ]
    trainer = run(["fit", "--config=bc_maniskill3.yaml", *options, *chosen]).trainer
    policy = load_policy(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    observation = {key: np.zeros(VECTORS[key]) for key in keys} | {IMAGE: np.zeros((3, 128, 128), np.uint8)}
    assert policy.act(observation).shape == (4,)
