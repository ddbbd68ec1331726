"""Reinforcement learning through the command line, on an environment without a simulator."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from datamodules import DataError
from difftori_pl import load_policy
from difftori_pl.cli import SHIPPED_CONFIGS, DiffTORICLI, main, run
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.errors import CheckpointError, ConfigurationError
from difftori_pl.trajopt import compilation

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "tests" / "rl.yaml")

FULL_METHOD = [
    "--model.critic=ObservationCritic",
    "--model.critic.encoder=StateEncoder",
    "--model.critic.encoder.obs_dims={state: 2}",
    "--model.critic.encoder.latent_dim=6",
    "--model.critic.encoder.normalize=false",
    "--model.critic.action_dim=1",
    "--model.critic.hidden_dim=16",
    "--model.planner.trajopt.solver=LevenbergMarquardt",
    "--model.planner.trajopt.solver.max_steps=3",
    "--model.planner.trajopt.backward_mode=Truncated",
]
REPLAYED = [*FULL_METHOD, "--model.policy_gradient=ReplayedStates", "--model.policy_gradient.n_states=4"]
EXECUTED = [*FULL_METHOD, "--model.policy_gradient=ExecutedActions"]
ABLATIONS = {
    "td_mpc": [],
    "replayed_states": REPLAYED,
    "executed_actions": EXECUTED,
    "without_backward": ["--model.planner.trajopt.solver=LevenbergMarquardt"],
    "without_reward_loss": [*REPLAYED, "--model.reward_weight=0"],
    "without_dynamics_loss": [*REPLAYED, "--model.consistency_weight=0"],
    "without_policy_initialisation": [*REPLAYED, "--model.planner.n_policy_starts=0"],
}

Fit = Callable[..., DiffTORICLI]


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step environments in this process, because starting another takes longer than the run."""
    monkeypatch.setattr("difftori_pl.callbacks.collect.EnvPool", LocalPool)
    monkeypatch.setattr("difftori_pl.callbacks.rollout.EnvPool", LocalPool)


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    def fit(*options: str, folder: str = "runs") -> DiffTORICLI:
        return run(["fit", f"--config={CONFIG}", *options, f"--trainer.logger.save_dir={tmp_path / folder}"])

    return fit


def last_checkpoint(cli: DiffTORICLI) -> str:
    callback = cli.trainer.checkpoint_callback
    assert isinstance(callback, ModelCheckpoint)
    return callback.last_model_path


def everything(cli: DiffTORICLI) -> dict[str, Any]:
    """Return the final state of a run: networks, optimisers, buffer, random states."""
    replay: Any = cli.datamodule
    log, tree = replay._opened()
    steps = log.read(torch.arange(log.start, log.end).numpy())
    return {
        "networks": cli.model.state_dict(),
        "optimizers": [optimizer.state_dict()["state"] for optimizer in cli.trainer.optimizers],
        "steps": {name: steps[name].tobytes() for name in steps.dtype.names},
        "priorities": tree.weights.tobytes(),
        "buffer_rng": replay._rng.bit_generator.state,
        "rng": torch.get_rng_state(),
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, torch.Tensor):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    elif isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        for one, other in zip(a, b, strict=True):
            assert_same(one, other)
    else:
        assert a == b


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


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("options", [[], EXECUTED], ids=["td_mpc", "executed_actions"])
@pytest.mark.parametrize(
    ("end", "n_updates"),
    [("--trainer.max_steps=33", 33), ("--collect.n_env_steps=72", 36)],
    ids=["during an episode's updates", "after an episode's updates"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(end: str, n_updates: int, options: list[str], fit: Fit) -> None:
    whole = everything(fit(*options, folder="whole"))
    first = fit(*options, end, folder="parts")
    assert int(first.model.env_step) == 2 * n_updates
    assert torch.load(last_checkpoint(first), weights_only=True)["global_step"] == n_updates
    second = fit(*options, "--ckpt_path=last", folder="parts")
    assert int(second.model.env_step) == 120
    assert_same(whole, everything(second))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("first", [True, False], ids=["compiled first", "eager first"])
def test_compiled_and_eager_runs_resume_each_other(first: bool, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")  # compiling kernels would take minutes
    whole = everything(fit(folder="whole"))
    fit(f"--model.compiled={first}", "--collect.n_env_steps=72", folder="parts")
    resumed = fit(f"--model.compiled={not first}", "--ckpt_path=last", folder="parts")
    torch.testing.assert_close(everything(resumed)["networks"], whole["networks"], rtol=1e-5, atol=1e-6)
    assert load_policy(last_checkpoint(resumed)) is not None


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
    "kind",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes(kind: signal.Signals, fit: Fit, tmp_path: Path) -> None:
    options = ["--collect.n_env_steps=240", "--checkpoint.every_n_train_steps=1"]
    whole = everything(fit(*options, folder="whole"))
    command = [sys.executable, "-m", "difftori_pl", "fit", f"--config={CONFIG}", *options]
    command += [f"--trainer.logger.save_dir={tmp_path / 'parts'}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    # A checkpoint is written at every update, so the signal probably arrives during a write.
    while not (found := list((tmp_path / "parts").glob("point/*/checkpoints/last.ckpt"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(kind)
    process.communicate(timeout=60)
    # Lightning handles SIGTERM and exits with code 0, so the exit code is not checked.
    reached = torch.load(found[0], weights_only=True)["state_dict"]["env_step"]
    assert reached < 240, "the run had ended before the signal came"
    again = fit(*options, "--ckpt_path=last", folder="parts")
    assert int(again.model.env_step) == 240
    assert_same(whole, everything(again))


@pytest.mark.usefixtures("in_process")
def test_a_run_resumes_despite_a_second_checkpoint_callback(fit: Fit, tmp_path: Path) -> None:
    own = ["--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.dirpath={tmp_path / 'own'}"]
    whole = everything(fit(*own, folder="whole"))
    fit(*own, "--trainer.max_steps=30", folder="parts")
    assert_same(whole, everything(fit(*own, "--ckpt_path=last", folder="parts")))


@pytest.mark.usefixtures("in_process")
def test_a_run_resumes_with_another_learning_rate(fit: Fit) -> None:
    fit("--trainer.max_steps=10", "--model.optimizer=Adam", "--model.optimizer.lr=1e-3")
    again = fit("--ckpt_path=last", "--trainer.max_steps=12", "--model.optimizer.lr=1e-5")
    assert [group["lr"] for optimizer in again.trainer.optimizers for group in optimizer.param_groups] == [1e-5, 1e-5]


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        if list(tmp_path.rglob("last.ckpt")):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((CheckpointError, DataError), match="No space left on device"):
        fit()
    monkeypatch.undo()
    assert int(fit("--ckpt_path=last").model.env_step) == 120


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


ON_A_POINT = [
    "--collect.env=tests.envs.Point", "--rollout.env=null", "--collect.n_seed_env_steps=48", "--data.batch_size=8",
    "--model.world_model.encoder.obs_dims={state: 2}", "--model.n_warmup_env_steps=50", "--trainer.max_steps=26",
    "--trainer.enable_progress_bar=false", "--model.world_model.hidden_dim=8", "--data.horizon=5",
]  # fmt: skip


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("method", METHODS)
def test_shipped_methods_train(method: str, fit: Fit) -> None:
    cli = fit("--config=rl_pendulum_swingup_state.yaml", f"--config={method}", *ON_A_POINT)
    assert cli.trainer.global_step == 26
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])


TD_MPC2_SMALL = ["--model.world_model.latent_dim=16", "--model.world_model.encoder_dims=[8]"]
FAST_PLANS = [
    "--model.planner.trajopt.solver.max_steps=2", "--model.planner.trajopt.solver.n_samples=16",
    "--model.planner.trajopt.solver.n_elites=4", "--model.planner.n_policy_starts=2",
]  # fmt: skip


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("config", sorted(path.name for path in SHIPPED_CONFIGS.glob("tdmpc2_*.yaml")))
def test_td_mpc2_configurations_train(config: str, fit: Fit) -> None:
    options = [*ON_A_POINT, *TD_MPC2_SMALL, *FAST_PLANS, "--model.world_model.action_dim=1", "--data.horizon=3"]
    cli = fit(f"--config={config}", *options, "--trainer.fast_dev_run=2")
    assert cli.trainer.global_step == 2
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])
    assert (cli.model.settings.discount, cli.model.max_grad_norm, cli.model.target_period) == (0.99, 20.0, 1)
    assert (cli.datamodule.priority_exponent, cli.model.max_horizon) == (0.0, 3)
    rates = [group["lr"] for optimizer in cli.trainer.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([3e-4, 0.9e-4, 3e-4])


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "options",
    [
        [
            "--model.planner.trajopt.solver=difftori_pl.trajopt.solvers.Adam",
            "--model.planner.trajopt.solver.max_steps=3",
        ],
        ["--config=rl/replayed_states.yaml", "--model.planner.trajopt.solver.max_steps=2"],
    ],
    ids=["gradient plans", "policy gradient"],
)
def test_td_mpc2_trains_with_other_parts(options: list[str], fit: Fit) -> None:
    task = ["--config=rl_pendulum_swingup_state.yaml", "--config=rl/td_mpc2.yaml"]
    cli = fit(*task, *options, *ON_A_POINT, *TD_MPC2_SMALL)
    assert cli.trainer.global_step == 26
    assert torch.isfinite(torch.nn.utils.parameters_to_vector(cli.model.parameters())).all()


@pytest.mark.usefixtures("in_process")
def test_td_mpc2_learns_from_episodes_that_end_early(fit: Fit) -> None:
    task = ["--config=rl_pendulum_swingup_state.yaml", "--config=rl/td_mpc2.yaml"]
    ledge = ["--collect.env=tests.envs.Ledge", "--collect.n_seed_env_steps=300", "--data.horizon=3"]
    cli = fit(*task, *ON_A_POINT, *TD_MPC2_SMALL, *FAST_PLANS, *ledge, "--model.world_model.episodic=true")
    log, _ = cli.datamodule._opened()  # type: ignore[attr-defined]
    assert log.field("terminated").sum() > 2
    assert cli.trainer.callback_metrics["train/termination_loss"] > 0
    assert torch.isfinite(torch.nn.utils.parameters_to_vector(cli.model.parameters())).all()


@pytest.mark.usefixtures("in_process")
def test_td_mpc2_resumes_exactly_and_with_another_learning_rate(fit: Fit) -> None:
    options = ["--config=tdmpc2_cartpole_swingup_state.yaml", *ON_A_POINT, *TD_MPC2_SMALL, *FAST_PLANS]
    whole = everything(fit(*options, folder="whole"))
    first = fit(*options, "--trainer.max_steps=13", folder="parts")
    again = f"--ckpt_path={last_checkpoint(first)}"
    assert_same(whole, everything(fit(*options, again, folder="parts")))
    action = load_policy(last_checkpoint(first)).act({"state": np.array([0.3, 0.0], dtype=np.float32)})
    assert action.shape == (1,)
    faster = fit(*options, again, "--model.optimizer.lr=1e-3", folder="parts")
    rates = [group["lr"] for optimizer in faster.trainer.optimizers for group in optimizer.param_groups]
    assert rates == pytest.approx([1e-3, 3e-4, 1e-3])


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
