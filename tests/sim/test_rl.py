"""Reinforcement learning in a simulator, through the command line."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.cli import run

pytest.importorskip("dm_control")
pytestmark = pytest.mark.sim


def test_the_full_method_learns_rewards_in_two_thousand_steps(tmp_path: Path) -> None:
    """Random actions, then planning with the policy gradient; the error of the predicted rewards halves."""
    cli = run([
        "fit", "--config=rl_cartpole_swingup_state.yaml", "--config=rl/replayed_states.yaml", "--config=rl/short.yaml",
        "--model.world_model.hidden_dim=32", "--model.policy_gradient.n_states=8", "--model.n_warmup_env_steps=500",
        "--model.planner.trajopt.solver.max_steps=2", "--data.batch_size=16", "--collect.env.action_repeat=8",
        "--collect.n_seed_env_steps=1000", "--collect.n_env_steps=2000", "--rollout.every_n_env_steps=2000",
        "--rollout.n_episodes=1", "--rollout.n_envs=1", "--trainer.enable_progress_bar=false",
        "--trainer.log_every_n_steps=1", f"--trainer.logger.save_dir={tmp_path}",
    ])  # fmt: skip
    assert int(cli.model.env_step) == 2000
    assert cli.trainer.global_step == 250
    events = EventAccumulator(cli.trainer.log_dir)
    events.Reload()
    curves = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    steps = {tag: [event.step for event in curve] for tag, curve in curves.items()}
    assert steps["collect/return"] == [1000, 2000]
    assert steps["rollout/policy/return"] == [2000]
    assert steps["train/loss"] == list(range(0, 2000, 8))
    # The policy gradient starts when the warm-up ends.
    assert steps["train/plan_loss"] == [step for step in steps["train/loss"] if step >= 500]
    rewards = [event.value for event in curves["train/reward_loss"]]
    assert sum(rewards[-50:]) < 0.5 * sum(rewards[:50])
