"""Rollouts of a policy and its base policy in robosuite, run from the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from lightning import Trainer

from difftori_pl.cli import run
from difftori_pl.errors import ConfigurationError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]


def rollout_options(folder: Path, *options: str) -> list[str]:
    return [
        "--rollout.n_episodes=3",
        "--rollout.n_envs=2",
        "--rollout.env.max_episode_steps=12",
        f"--trainer.logger.save_dir={folder}",
        "--trainer.logger.version=here",
        *options,
    ]


def test_the_test_command_evaluates_the_policy_and_its_base_policy(
    quick: list[str], train: Callable[..., Path], low_dim_base: Path, tmp_path: Path
) -> None:
    config = "il_square_low_dim.yaml"
    checkpoint = train(config, f"--model.base_policy.checkpoint={low_dim_base}")
    options = rollout_options(tmp_path, "--rollout.n_videos=1", f"--ckpt_path={checkpoint}")
    trainer = run(["test", f"--config={config}", *quick, *options]).trainer
    folder = tmp_path / "il_square_low_dim" / "here"
    for name in ("policy", "base"):
        episodes = [json.loads(line) for line in next(folder.glob(f"rollouts_*_{name}.jsonl")).read_text().splitlines()]
        assert sorted(episode["seed"] for episode in episodes) == [100_000, 100_001, 100_002]
        assert all(episode["crash"] is None and episode["length"] <= 12 for episode in episodes)
        rate = sum(episode["success"] for episode in episodes) / 3
        assert trainer.callback_metrics[f"rollout/{name}/success_rate"].item() == pytest.approx(rate)
        assert trainer.callback_metrics[f"rollout/{name}/success_high"].item() > rate
        assert len(list((folder / "videos").glob(f"*_{name}_seed100000_*.mp4"))) == 1
    assert list(folder.glob("events.out.tfevents.*"))


def fit_and_evaluate(quick: list[str], *options: str) -> Trainer:
    command = ["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, "--model.policy.hidden_dim=8", *options]
    return run([*command, "--trainer.max_epochs=1", "--trainer.limit_train_batches=1"]).trainer


def test_fit_evaluates_during_training_and_counts_crashes(quick: list[str], tmp_path: Path) -> None:
    options = rollout_options(tmp_path, "--rollout.every_n_epochs=1", "--rollout.n_videos=0")
    # No simulator replies within 0.1 ms, so every episode crashes.
    trainer = fit_and_evaluate(quick, *options, "--rollout.step_timeout=1e-4")
    assert trainer.callback_metrics["rollout/policy/crashed_episodes"].item() == 3
    assert "rollout/policy/success_rate" not in trainer.callback_metrics


def test_a_simulator_that_cannot_be_started_ends_the_run(quick: list[str], tmp_path: Path) -> None:
    options = rollout_options(tmp_path, "--rollout.every_n_epochs=1", "--rollout.n_videos=0")
    unknown_robot = ["--rollout.env.task=Lift", "--rollout.env.robots=[Knight]"]
    with pytest.raises(ConfigurationError, match=r"cannot be started: .*robosuite cannot build Lift .*'Knight'"):
        fit_and_evaluate(quick, *options, *unknown_robot)
