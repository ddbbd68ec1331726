"""Simulators that crash, return NaN or end early during collection."""

import itertools
import math
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import ReplayDataModule
from difftori_pl.cli import run
from difftori_pl.errors import ConfigurationError
from tests.envs import Point, PointEnv
from tests.rl_runs import CONFIG, REPLAYED, Fit, everything, fit, in_process, last_checkpoint

__all__ = ["fit", "in_process"]


class Fragile(Point):
    """Recipe of an environment that starts, but whose steps always fail."""

    def __call__(self, seed: int = 0) -> PointEnv:
        env = super().__call__(seed)
        env.step = lambda action: 1 / 0  # type: ignore[method-assign,assignment,return-value]
        return env


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("difftori_pl.envs.DMControl", "cannot be started: .*no task 'cartpole-swinup'"),
        (
            "tests.faults.test_collection.Fragile",
            "expected a usable episode in 100 consecutive rounds, got none: .*crashed: ZeroDivisionError",
        ),
    ],
)
def test_a_run_without_usable_episodes_ends(env: str, message: str, fit: Fit) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit(f"--collect.env={env}", "--collect.env.task=cartpole-swinup")


class Corrupt(Point):
    """Recipe of an environment that returns NaN once in its second episode."""

    def __init__(self, key: str = "state", task: str = "point") -> None:
        super().__init__(task)
        self.key = key

    def __call__(self, seed: int = 0) -> PointEnv:
        env = super().__call__(seed)
        reset, step, episodes = env.reset, env.step, itertools.count()

        def reset_and_count(**options: Any) -> Any:
            env.number = next(episodes)  # type: ignore[attr-defined]
            return reset(**options)

        def corrupt_step(action: Any) -> Any:
            obs, reward, *rest = step(action)
            if env.number == 1 and env.n_steps == 7:  # type: ignore[attr-defined]
                reward = reward if self.key == "state" else math.nan
                obs = {"state": obs["state"] * math.nan} if self.key == "state" else obs
            return obs, reward, *rest

        env.reset, env.step = reset_and_count, corrupt_step  # type: ignore[method-assign]
        return env


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(("key", "name"), [("state", "the observation 'state'"), ("reward", "the reward")])
def test_an_episode_with_a_nan_is_dropped(key: str, name: str, fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    cli = fit(
        "--collect.env=tests.faults.test_collection.Corrupt", f"--collect.env.key={key}", "--collect.n_env_steps=72"
    )
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert f"dropped the episode of seed 1, which crashed: {name} is not finite after step 7" in warnings
    assert cli.trainer.callback_metrics["collect/left_out_episodes"] == 1
    assert int(cli.model.env_step) == 72
    weights = torch.load(last_checkpoint(cli), weights_only=True)["state_dict"].values()
    assert all(torch.isfinite(value).all() for value in weights)


@pytest.mark.usefixtures("in_process")
def test_an_update_with_a_nan_is_skipped_and_counted(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    sample, count = ReplayDataModule.sample, itertools.count()

    def corrupt_sample(self: ReplayDataModule) -> dict[str, Any]:
        batch = sample(self)
        if next(count) == 3:
            batch["rewards"][0, 0] = torch.nan
        return batch

    monkeypatch.setattr(ReplayDataModule, "sample", corrupt_sample)
    cli = fit(*REPLAYED)
    assert cli.trainer.callback_metrics["train/skipped_updates"] == 1
    content = everything(cli)
    assert all(torch.isfinite(value).all() for value in content["networks"].values())
    assert np.isfinite(cli.datamodule._opened()[1].weights).all()


class Falling(Point):
    """Recipe of an environment that terminates after 1 to 9 steps, depending on the seed."""

    def __call__(self, seed: int = 0) -> PointEnv:
        env = super().__call__(seed)
        reset, step = env.reset, env.step

        def reset_and_draw(*, seed: int | None = None, options: Any = None) -> Any:
            env.end = (seed or 0) % 9 + 1  # type: ignore[attr-defined]
            return reset(seed=seed, options=options)

        def fall(action: Any) -> Any:
            obs, reward, *_ = step(action)
            return obs, reward, env.n_steps >= env.end, False, {}  # type: ignore[attr-defined]

        env.reset, env.step = reset_and_draw, fall  # type: ignore[method-assign]
        return env


@pytest.mark.usefixtures("in_process")
def test_a_task_that_ends_early_is_trained_on(fit: Fit, caplog: pytest.LogCaptureFixture) -> None:
    cli = fit("--collect.env=tests.faults.test_collection.Falling", "--data.batch_size=4")
    assert "had 2 steps, fewer than the 3 of a training sequence" in caplog.text
    assert int(cli.model.env_step) >= 120
    log, _ = cli.datamodule._opened()  # type: ignore[attr-defined]
    terminated = log.field("terminated")
    lengths = np.diff([-1, *np.flatnonzero(terminated)])
    assert terminated.any()
    assert lengths.min() >= 3


def test_a_test_in_which_every_episode_crashes_is_an_error(fit: Fit, tmp_path: Path) -> None:
    options = ["--collect.n_env_steps=48", "--trainer.max_steps=2"]
    checkpoint = last_checkpoint(fit(*options))
    rollouts = ["--rollout.env=tests.faults.test_collection.Fragile", "--rollout.n_episodes=2", "--rollout.n_videos=0"]
    with pytest.raises(ConfigurationError, match=r"all 2 episodes of policy crashed, .*ZeroDivisionError"):
        run(
            [
                "test",
                f"--config={CONFIG}",
                f"--ckpt_path={checkpoint}",
                *rollouts,
                f"--trainer.logger.save_dir={tmp_path}",
            ]
        )


@pytest.mark.usefixtures("in_process")
def test_the_handler_of_ctrl_c_is_restored(fit: Fit) -> None:
    def own(*_: Any) -> None: ...

    before = signal.signal(signal.SIGINT, own)
    try:
        fit("--collect.n_env_steps=48")
        assert signal.getsignal(signal.SIGINT) is own
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("in_process")
def test_environment_steps_are_those_that_the_environment_reports(fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    step = PointEnv.step

    def report(self: PointEnv, action: Any) -> Any:
        obs, reward, terminated, truncated, _ = step(self, action)
        return obs, reward, terminated, truncated, {"env_steps": 1 if truncated else 2}

    monkeypatch.setattr(PointEnv, "step", report)
    cli = fit("--collect.n_env_steps=46", "--collect.n_seed_env_steps=23")
    assert int(cli.model.env_step) == 46  # two episodes, each of 11 actions of two steps and one action of one step
