"""Simulators that crash or hang during training and evaluation are replaced, and the failures are counted."""

import pytest

from tests.rl_runs import Fit, fit

__all__ = ["fit"]


def test_training_and_evaluation_continue_without_failed_episodes(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    cli = fit(
        "--collect.env=tests.faults.simulators.FaultyPoint", "--collect.n_envs=2", "--collect.step_timeout=2",
        "--rollout.env=tests.faults.simulators.FaultyPoint", "--rollout.n_envs=2", "--rollout.step_timeout=2",
        "--rollout.every_n_env_steps=96", "--rollout.n_episodes=5", "--rollout.n_videos=0",
    )  # fmt: skip
    assert int(cli.model.env_step) == 120
    assert cli.trainer.global_step == 60
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    for seed, reason in ((1, "exit code 3"), (2, "no reply within 2 s"), (3, "ValueError: the arm fell off")):
        assert any(f"the episode of seed {seed}, which crashed" in line and reason in line for line in warnings), (
            warnings
        )
        assert any(f"seed {200_000 + seed} crashed after 3 steps" in line and reason in line for line in warnings), (
            warnings
        )
    assert len(warnings) == 6
    assert cli.trainer.callback_metrics["rollout/policy/crashed_episodes"] == 3
