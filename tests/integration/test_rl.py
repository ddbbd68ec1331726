"""Reinforcement learning through the command line, on an environment without a simulator."""

from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules import DataError
from difftori_pl import load_policy
from difftori_pl.cli import SHIPPED_CONFIGS, main, run
from difftori_pl.errors import CheckpointError, ConfigurationError
from tests.rl_runs import (
    CONFIG,
    EXECUTED,
    ON_A_POINT,
    REPLAYED,
    Fit,
    assert_same,
    everything,
    fit,
    in_process,
    last_checkpoint,
)

__all__ = ["fit", "in_process"]

ABLATIONS = {
    "td_mpc": [],
    "replayed_states": REPLAYED,
    "executed_actions": EXECUTED,
    "without_backward": ["--model.planner.trajopt.solver=LevenbergMarquardt"],
    "without_reward_loss": [*REPLAYED, "--model.reward_weight=0"],
    "without_dynamics_loss": [*REPLAYED, "--model.consistency_weight=0"],
    "without_policy_initialisation": [*REPLAYED, "--model.planner.n_policy_starts=0"],
}


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("options", ABLATIONS.values(), ids=ABLATIONS)
def test_each_mode_trains(options: list[str], fit: Fit) -> None:
    cli = fit(*options, "--trainer.max_steps=26")
    assert cli.trainer.global_step == 26
    assert torch.isfinite(torch.nn.utils.parameters_to_vector(cli.model.parameters())).all()
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])


@pytest.mark.usefixtures("in_process")
def test_everything_is_logged_over_environment_steps(fit: Fit, tmp_path: Path) -> None:
    cli = fit(
        "--rollout.env=tests.envs.Point", "--rollout.n_episodes=2", "--rollout.n_envs=1", "--rollout.n_videos=1",
        "--rollout.every_n_env_steps=96",
    )  # fmt: skip
    assert int(cli.model.env_step) == 120
    assert cli.trainer.global_step == 60
    assert {"env_step", "return", "env_steps/s"} <= cli.trainer.progress_bar_metrics.keys()
    events = EventAccumulator(cli.trainer.log_dir)
    events.Reload()
    scalars = {tag: [event.step for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert scalars["collect/return"] == [24, 48, 72, 96, 120]
    assert scalars["train/value_loss"] == list(range(0, 120, 2))
    assert scalars["rollout/policy/return"] == scalars["rollout/policy/return_low"] == [96]
    returns = events.Scalars("rollout/policy/return")[0].value
    assert events.Scalars("rollout/policy/return_low")[0].value <= returns
    assert 0 < returns <= 12
    assert list(Path(cli.trainer.log_dir).glob("videos/step96_*.mp4"))


@pytest.mark.usefixtures("in_process")
def test_the_test_command_evaluates_a_checkpoint(fit: Fit, tmp_path: Path) -> None:
    checkpoint = last_checkpoint(fit("--trainer.max_steps=10"))
    options = [f"--config={CONFIG}", f"--ckpt_path={checkpoint}", f"--trainer.logger.save_dir={tmp_path}"]
    cli = run(["test", *options, "--rollout.env=tests.envs.Point", "--rollout.n_episodes=3", "--rollout.n_videos=0"])
    assert 0 < cli.trainer.callback_metrics["rollout/policy/return"] <= 12


def test_updates_per_step_and_several_environments(fit: Fit) -> None:
    cli = fit("--collect.n_envs=2", "--collect.updates_per_step=0.5")
    # Both environments finish their episodes, so one more episode than requested is collected.
    assert int(cli.model.env_step) == 144
    assert cli.trainer.global_step == 36


@pytest.mark.usefixtures("in_process")
def test_learning_from_pixels(fit: Fit) -> None:
    cli = fit(
        "--collect.env.pixels=true", "--model.world_model.encoder=PixelEncoder",
        "--model.world_model.encoder.n_filters=4", "--model.augmentation=RandomShift", "--trainer.max_steps=2",
    )  # fmt: skip
    assert cli.trainer.global_step == 2


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            ["--data.horizon=2"],
            ConfigurationError,
            "sequences must have at least 3 steps, the length that an update needs, got 2",
        ),
        (
            ["--collect.env.n_steps=2"],
            ConfigurationError,
            "got none: .* the last episode had 2 steps, fewer than the 3",
        ),
        (["--data.batch_size=500"], DataError, "at least batch_size=500 sequences in the buffer, got 20"),
        (["--collect.env=null"], DataError, "the buffer is empty"),
        (["--ckpt_path=last"], ConfigurationError, "there is no last.ckpt in"),
        (["--collect.n_envs=0"], ConfigurationError, "n_envs must be above 0"),
        (["--rollout.n_envs=0"], ConfigurationError, "n_envs must be above 0, got 0"),
    ],
)
def test_bad_input(options: list[str], error: type[Exception], message: str, fit: Fit) -> None:
    with pytest.raises(Exception, match=message) as raised:
        fit(*options)
    chain: list[BaseException | None] = [raised.value]
    while chain[-1] is not None:
        chain.append(chain[-1].__cause__ or chain[-1].__context__)
    assert any(isinstance(link, error) for link in chain)


@pytest.mark.usefixtures("in_process")
def test_a_checkpoint_of_another_task_is_refused(fit: Fit) -> None:
    checkpoint = last_checkpoint(fit("--trainer.max_steps=10"))
    with pytest.raises(CheckpointError, match="the task line, got one of point"):
        fit("--collect.env.task=line", f"--ckpt_path={checkpoint}")


@pytest.mark.parametrize("config", sorted(path.name for path in SHIPPED_CONFIGS.glob("rl_*.yaml")))
def test_shipped_configurations_are_complete(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["fit", f"--config={config}", "--print_config"])
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    model, env = printed["model"]["init_args"], printed["collect"]["env"]["init_args"]
    repeat = env["action_repeat"]
    assert printed["collect"]["n_seed_env_steps"] == 5000 * repeat
    assert model["horizon_schedule"]["init_args"]["n_env_steps"] == 25_000 * repeat
    assert env["pixels"] == ("state" not in config)
    assert printed["rollout"]["env"] == printed["collect"]["env"]
    if model["critic"] is not None:
        assert model["critic"]["init_args"]["action_dim"] == model["world_model"]["init_args"]["action_dim"]
    assert printed["trainer"]["logger"]["init_args"]["name"] == config.removesuffix(".yaml")


METHODS = sorted(
    f"rl/{path.name}" for path in (SHIPPED_CONFIGS / "rl").glob("*.yaml")
    if path.stem not in ("state", "pixels", "drq_v2", "pretrained_critic") and not path.stem.startswith("action_repeat")
)  # fmt: skip


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("method", METHODS)
def test_shipped_methods_train(method: str, fit: Fit) -> None:
    cli = fit("--config=rl_pendulum_swingup_state.yaml", f"--config={method}", *ON_A_POINT)
    assert cli.trainer.global_step == 26
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])


@pytest.mark.usefixtures("in_process")
def test_the_critic_of_an_earlier_run_is_used_and_stays_frozen(fit: Fit, tmp_path: Path) -> None:
    task = "--config=rl_pendulum_swingup_state.yaml"
    earlier = fit(task, "--config=rl/replayed_states.yaml", *ON_A_POINT, folder="earlier")
    file = Path(last_checkpoint(earlier)).rename(tmp_path / "critic.ckpt")
    options = [task, "--config=rl/pretrained_critic.yaml", f"--model.critic.checkpoint={file}", *ON_A_POINT]
    whole = fit(*options)
    known = earlier.model.critic.state_dict()
    assert_same(whole.model.critic.state_dict(), known)
    assert_same(whole.model.target["critic"].state_dict(), known)
    assert "train/critic_loss" not in whole.trainer.callback_metrics
    assert whole.trainer.callback_metrics["train/plan_grad_norm"] > 0.0

    half = fit(*options, "--trainer.max_steps=13", folder="half")
    file.unlink()
    resumed = fit(*options, f"--ckpt_path={last_checkpoint(half)}", folder="resumed")
    assert_same(everything(resumed), everything(whole))
    assert_same(load_policy(last_checkpoint(whole)).policy.critic.state_dict(), known)  # type: ignore[attr-defined]


@pytest.mark.usefixtures("in_process")
def test_a_missing_critic_checkpoint_is_reported(fit: Fit) -> None:
    options = ["--config=rl_pendulum_swingup_state.yaml", "--config=rl/pretrained_critic.yaml", *ON_A_POINT]
    with pytest.raises(SystemExit, match=r"no checkpoint critic\.ckpt; train one first"):
        main(["fit", *options])
    without = last_checkpoint(fit())
    with pytest.raises(SystemExit, match="does not hold a critic; train one first"):
        main(["fit", *options, f"--model.critic.checkpoint={without}"])


@pytest.mark.usefixtures("in_process")
def test_observations_of_another_size_are_refused(fit: Fit) -> None:
    with pytest.raises(ConfigurationError, match=r"encoder reads .* \(3,\), but the .* delivers state \(2,\)"):
        fit("--model.world_model.encoder.obs_dims={state: 3}")
    with pytest.raises(ConfigurationError, match=r"critic.encoders.0 reads the observation 'joints'"):
        fit(*REPLAYED, "--model.critic.encoder.obs_dims={joints: 2}")
