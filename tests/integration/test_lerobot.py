"""From a LeRobot data set to actions in its units: the shipped configurations, load_policy and export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from datamodules.formats.lerobot_file import LeRobotFile
from datamodules.lerobot import LeRobotDataModule
from difftori_pl import load_policy
from difftori_pl.cli import main, run
from difftori_pl.deployment.export import export
from difftori_pl.deployment.share import share
from difftori_pl.errors import CheckpointError, ConfigurationError, ShapeError
from difftori_pl.evaluation.action_errors import mean_error
from difftori_pl.evaluation.metrics import mean_interval
from tests.lerobot_data import FIXTURES

pytest.importorskip("av")
pytest.importorskip("pyarrow")

V3 = FIXTURES / "so101_v3"
HELD_OUT = 0.4
"""Fraction of the five episodes."""


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("lerobot")
    return [
        f"--data.path={V3}",
        f"--data.frame_cache={folder / 'frames'}",
        "--data.batch_size=50",
        f"--data.validation_fraction={HELD_OUT}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.check_val_every_n_epoch=1",
        "--trainer.log_every_n_steps=1",
        f"--trainer.logger.save_dir={folder / 'runs'}",
    ]


@pytest.fixture(scope="module")
def base(options: list[str]) -> Path:
    """Train behaviour cloning on the state for 300 steps and return the checkpoint."""
    longer = ["--trainer.max_steps=300", "--trainer.check_val_every_n_epoch=50"]
    trainer = run(["fit", "--config=bc_lerobot.yaml", *options, *longer]).trainer
    return Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def refined(options: list[str], base: Path) -> Path:
    small = ["--trainer.max_steps=2", "--model.trajopt.solver.max_steps=2", f"--model.base_policy.checkpoint={base}"]
    trainer = run(["fit", "--config=il_lerobot.yaml", *options, *small]).trainer
    path = Path(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    recorded = torch.load(path, weights_only=True)["difftori"]["validation"]
    for name in ("action_error", "base_action_error"):
        assert torch.isfinite(trainer.callback_metrics[f"val/{name}"])
        assert recorded[name] == float(trainer.callback_metrics[f"val/{name}"])
    assert recorded["step"] == 2
    best = trainer.checkpoint_callback
    chosen = torch.load(best.best_model_path, weights_only=True)["difftori"]["validation"]  # type: ignore[union-attr]
    assert chosen["action_error"] == float(best.best_model_score)  # type: ignore[union-attr]
    return path


def test_a_policy_acts_in_degrees_from_lerobots_keys(base: Path) -> None:
    file, policy = LeRobotFile(V3), load_policy(base)
    states, demonstrated = file.read("episode_3", "obs/state"), file.read("episode_3", "actions")
    actions = np.stack([policy.act({"observation.state": state}) for state in states])
    error = np.sqrt(np.square(actions - demonstrated).mean())
    assert np.sqrt(np.square(demonstrated).mean()) > 25.0  # the error of actions in [-1, 1]
    assert error < 4.0  # degrees; about half the error of the best constant action
    policy.reset()
    np.testing.assert_array_equal(policy.act({"state": states[0]}), actions[0])
    with pytest.raises(ShapeError, match="got no 'state'"):
        policy.act({"observation.images.front": np.zeros((3, 96, 128), np.uint8)})


def test_the_refined_policy_inverts_the_same_scaling(refined: Path, base: Path) -> None:
    state = LeRobotFile(V3).read("episode_0", "obs/state")[5]
    torch.manual_seed(0)
    action = load_policy(refined).act({"observation.state": state})
    proposal = load_policy(base).act({"observation.state": state})
    assert np.abs(action - proposal).max() < 10.0  # untrained: near the proposal
    assert np.abs(action).max() > 5.0


def test_an_exported_program_returns_degrees(base: Path, tmp_path: Path) -> None:
    exported = export(base, tmp_path / "policy.pt2", n_runs=1)
    assert exported.inputs == ["state"]
    state = LeRobotFile(V3).read("episode_3", "obs/state")[10]
    program = torch.export.load(tmp_path / "policy.pt2").module()
    action = program(torch.tensor(state)[None, None])[0]
    np.testing.assert_allclose(action[0].detach().numpy(), load_policy(base).act({"state": state}), rtol=0, atol=1e-3)


def test_other_training_episodes_have_another_scaling(options: list[str], base: Path) -> None:
    other = ["--data.split_seed=1", f"--model.base_policy.checkpoint={base}", "--trainer.fast_dev_run=1"]
    with pytest.raises(ConfigurationError, match="was trained with action_scaling"):
        run(["fit", "--config=il_lerobot.yaml", *options, *other])


def test_the_error_on_held_out_episodes_is_in_degrees(
    options: list[str], refined: Path, base: Path, tmp_path: Path
) -> None:
    chosen = [
        f"--model.base_policy.checkpoint={base}",
        "--model.trajopt.solver.max_steps=2",
        f"--ckpt_path={refined}",
    ]
    metrics = run(["test", "--config=il_lerobot.yaml", *options, *chosen]).trainer.callback_metrics
    data = LeRobotDataModule(str(V3), 6, validation_fraction=HELD_OUT)
    data.setup()
    held_out = {data.demos[int(number)] for batch in data.val_dataloader() for number in batch["demo"]}
    assert len(held_out) == 2
    file, errors = LeRobotFile(V3), []
    for demo in sorted(held_out):
        policy = load_policy(base)
        actions = np.stack([policy.act({"state": state}) for state in file.read(demo, "obs/state")])
        errors.append(float(np.sqrt(np.square(actions - file.read(demo, "actions")).mean())))
    names = ("action_error", "action_error_low", "action_error_high")
    found = [float(metrics[f"held_out/base/{name}"]) for name in names]
    assert found == pytest.approx([float(np.mean(errors)), *mean_interval(errors)], rel=1e-4)
    difference = float(metrics["held_out/policy/action_error"] - metrics["held_out/base/action_error"])
    assert float(metrics["held_out/policy_minus_base/action_error"]) == pytest.approx(difference, abs=1e-3)
    written = share(refined, tmp_path / "policy").errors
    assert written is not None
    assert written.errors["base"] == pytest.approx(errors, rel=1e-4)
    card = (tmp_path / "policy/README.md").read_text()
    assert f"| BC (base) | {mean_error(written.errors['base'])} | 2 |" in card
    recorded = torch.load(refined, weights_only=True)["difftori"]["validation"]
    assert f"Validation after {recorded['step']} updates" in card
    assert f"policy {recorded['action_error']:.4g}, base policy {recorded['base_action_error']:.4g}." in card


def test_a_damaged_scaling_in_a_checkpoint(base: Path, tmp_path: Path) -> None:
    content = torch.load(base, weights_only=True)
    content["interface"]["action_scaling"]["half_range"] = [0.0] * 6
    torch.save(content, tmp_path / "damaged.ckpt")
    with pytest.raises(CheckpointError, match="expected action_scaling with method, center and half_range"):
        load_policy(tmp_path / "damaged.ckpt")


def test_diffusion_policy_trains(options: list[str]) -> None:
    small = ["--model.policy.dims=[8, 16]", "--trainer.fast_dev_run=1"]
    trainer = run(["fit", "--config=diffusion_lerobot.yaml", *options, *small]).trainer
    assert torch.isfinite(trainer.callback_metrics["val/action_error"])


def test_images_and_the_task_are_observations(options: list[str], tmp_path: Path) -> None:
    chosen = [
        "--data.image_keys=[images_front]",
        "--data.image_size=96",
        "--data.obs_keys=[state, task]",
        "--model.policy.encoder=lerobot/image_encoder.yaml",
        "--model.policy.encoder.obs_dims={state: 6, task: 2}",
        "--trainer.max_steps=2",
        "--data.horizon=2",
        f"--trainer.logger.save_dir={tmp_path}",
    ]
    trainer = run(["fit", "--config=bc_lerobot.yaml", *options, *chosen]).trainer
    policy = load_policy(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    observation = {
        "observation.state": np.zeros(6),
        "observation.images.front": np.zeros((3, 96, 96), np.uint8),
        "task": "reach the goal",
    }
    named = policy.act(observation)
    np.testing.assert_array_equal(policy.act(observation | {"task": np.array([0.0, 1.0])}), named)
    assert not np.array_equal(policy.act(observation | {"task": "reach another goal"}), named)
    with pytest.raises(ShapeError, match=r"expected a task out of .*, got 'dance'"):
        policy.act(observation | {"task": "dance"})


def test_a_learned_embedding_of_the_task(options: list[str], tmp_path: Path) -> None:
    chosen = [
        "--data.obs_keys=[state, task]",
        "--model.policy.encoder=lerobot/task_encoder.yaml",
        "--trainer.max_steps=60",
        "--trainer.check_val_every_n_epoch=50",
        f"--trainer.logger.save_dir={tmp_path}",
    ]
    trainer = run(["fit", "--config=bc_lerobot.yaml", *options, *chosen]).trainer
    policy = load_policy(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    tasks = LeRobotFile(V3).filters()
    state = {"observation.state": np.zeros(6)}
    actions = [policy.act(state | {"task": task}) for task in tasks]
    assert np.abs(actions[0] - actions[1]).max() > 0.1  # degrees
    with pytest.raises(ShapeError, match=r"expected a task out of .*, got 'dance'"):
        policy.act(state | {"task": "dance"})


def test_another_number_of_tasks_is_refused(options: list[str]) -> None:
    chosen = ["--data.obs_keys=[state, task]", "--model.policy.encoder=lerobot/task_encoder.yaml"]
    chosen += ["--model.policy.encoder.n_tasks=3", "--trainer.fast_dev_run=1"]
    with pytest.raises(ConfigurationError, match=r"reads the observation 'task' with the shape \(3,\)"):
        run(["fit", "--config=bc_lerobot.yaml", *options, *chosen])


def test_only_the_episodes_of_a_task_are_used(options: list[str]) -> None:
    trainer = run(
        ["fit", "--config=bc_lerobot.yaml", *options, "--data.task_filter=reach the goal", "--trainer.fast_dev_run=1"]
    ).trainer
    data = trainer.datamodule  # type: ignore[attr-defined]
    used = {
        data.demos[int(number)]
        for loader in (data.train_dataloader(), data.val_dataloader())
        for batch in loader
        for number in batch["demo"]
    }
    episodes = LeRobotFile(V3).meta.episodes
    assert used == {demo for demo, episode in episodes.items() if "reach the goal" in episode.tasks}
    assert 0 < len(used) < len(episodes)


def test_the_command_summarises_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "check", str(V3)])
    printed = capsys.readouterr().out
    content = "so101_follower at 30 steps per second, 2 tasks ('reach another goal', 'reach the goal')"
    assert f"no faults. {content}, 5 demos, 150 steps (24 to 36 each)" in printed
    assert "obs/images_front (96, 128, 3)" in printed
    assert "filter reach the goal: 2 demos" in printed
