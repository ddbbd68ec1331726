"""DrQ-v2 through the command line, on an environment without a simulator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from difftori_pl import DrQV2, load_policy
from difftori_pl.cli import SHIPPED_CONFIGS, run
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.errors import ConfigurationError
from tests.rl_runs import assert_same, everything, last_checkpoint

Fit = Callable[..., Any]
CONFIGS = sorted(path.name for path in SHIPPED_CONFIGS.glob("drq_v2_*.yaml"))
SMALL = [
    "--config=drq_v2_pendulum_swingup.yaml", "--collect.env=tests.envs.Point", "--collect.env.pixels=true",
    "--rollout.env=null", "--collect.n_seed_env_steps=48", "--collect.n_env_steps=120", "--data.batch_size=4",
    "--data.n_steps=1000", "--model.encoder.n_filters=2", "--model.hidden_dim=8", "--model.feature_dim=4",
    "--model.exploration.n_env_steps=100", "--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu",
    "--trainer.enable_model_summary=false", "--trainer.log_every_n_steps=1", "--checkpoint.every_n_train_steps=5",
]  # fmt: skip


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fit:
    # Starting another process takes longer than the run.
    monkeypatch.setattr("difftori_pl.callbacks.collect.EnvPool", LocalPool)

    def fit(*options: str, folder: str = "runs") -> Any:
        return run(["fit", *SMALL, *options, f"--trainer.logger.save_dir={tmp_path / folder}"])

    return fit


@pytest.mark.parametrize("config", CONFIGS)
def test_shipped_configurations_are_complete(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["fit", f"--config={config}", "--print_config"])
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    model, collect = printed["model"]["init_args"], printed["collect"]
    task = config.removeprefix("drq_v2_").removesuffix(".yaml")
    model_based = yaml.safe_load((SHIPPED_CONFIGS / f"rl_{task}.yaml").read_text())
    assert model["action_dim"] == model_based["model"]["init_args"]["world_model"]["init_args"]["action_dim"]
    env = collect["env"]["init_args"]
    assert env["camera"] == model_based["collect"]["env"]["init_args"].get("camera", 0)
    assert (env["task"], env["action_repeat"], env["pixels"]) == (task.replace("_", "-"), 2, True)
    assert (collect["n_seed_env_steps"], collect["updates_per_step"]) == (4000, 0.5)
    assert printed["data"]["init_args"]["horizon"] == model["n_steps"] == (1 if task == "walker_run" else 3)
    assert printed["data"]["init_args"]["priority_exponent"] == printed["data"]["init_args"]["importance_exponent"] == 0
    assert printed["rollout"]["env"] == collect["env"]
    assert printed["trainer"]["logger"]["init_args"]["name"] == f"drq_v2_{task}"


def test_a_run_trains_and_its_checkpoint_acts(fit: Fit) -> None:
    cli = fit()
    assert int(cli.model.env_step) == 120
    assert cli.trainer.global_step == 30, "one update for two agent steps"
    metrics = cli.trainer.callback_metrics
    assert all(torch.isfinite(metrics[f"train/{name}"]) for name in ("critic_loss", "actor_loss", "value", "grad_norm"))
    policy = load_policy(last_checkpoint(cli))
    assert isinstance(policy.policy, DrQV2)
    pixels = np.random.default_rng(0).integers(0, 256, (9, 84, 84), dtype=np.uint8)
    action = policy.act({"pixels": pixels})
    expected, _ = cli.model.eval().act({"pixels": torch.from_numpy(pixels)[None, None]}, {})
    np.testing.assert_array_equal(action, expected[0].numpy())


def test_fast_dev_run(fit: Fit) -> None:
    assert fit("--trainer.fast_dev_run=1").trainer.global_step == 1


def test_a_resumed_run_equals_an_uninterrupted_one(fit: Fit) -> None:
    whole = everything(fit(folder="whole"))
    first = fit("--trainer.max_steps=17", folder="parts")
    assert int(first.model.env_step) == 68
    second = fit("--ckpt_path=last", folder="parts")
    assert int(second.model.env_step) == 120
    assert_same(whole, everything(second))


def test_rewards_are_learned_from(fit: Fit) -> None:
    """The discounted return of the point is known up to the policy; the value must move towards it."""
    cli = fit("--collect.n_env_steps=600", "--model.optimizer.lr=3e-3", "--model.target_rate=0.1")
    assert cli.trainer.callback_metrics["train/value"] > 2.0


def test_sequences_that_are_too_short_are_refused(fit: Fit) -> None:
    with pytest.raises(
        ConfigurationError, match=r"must have at least 3 steps, .*got 2: set data\.init_args\.horizon to 3"
    ):
        fit("--data.horizon=2")
