"""Small runs of reinforcement learning through the command line, on an environment without a simulator."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from difftori_pl.cli import DiffTORICLI, run
from difftori_pl.envs.local_pool import LocalPool

CONFIG = str(Path(__file__).with_name("rl.yaml"))

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
Fit = Callable[..., DiffTORICLI]

ON_A_POINT = [
    "--collect.env=tests.envs.Point", "--rollout.env=null", "--collect.n_seed_env_steps=48", "--data.batch_size=8",
    "--model.world_model.encoder.obs_dims={state: 2}", "--model.n_warmup_env_steps=50", "--trainer.max_steps=26",
    "--trainer.enable_progress_bar=false", "--model.world_model.hidden_dim=8", "--data.horizon=5",
]  # fmt: skip


def step_in_process(patch: pytest.MonkeyPatch) -> None:
    """Step environments in this process, because starting another takes longer than the run."""
    patch.setattr("difftori_pl.callbacks.collect.EnvPool", LocalPool)
    patch.setattr("difftori_pl.callbacks.rollout.EnvPool", LocalPool)


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step environments in this process during a test."""
    step_in_process(monkeypatch)


def fit_in(folder: Path, *options: str) -> DiffTORICLI:
    """Train the small configuration, with its runs in a folder."""
    return run(["fit", f"--config={CONFIG}", *options, f"--trainer.logger.save_dir={folder}"])


@pytest.fixture
def fit(tmp_path: Path) -> Fit:
    def fit(*options: str, folder: str = "runs") -> DiffTORICLI:
        return fit_in(tmp_path / folder, *options)

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
