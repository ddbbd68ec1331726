"""TD-MPC2 through the command line, on an environment without a simulator."""

import numpy as np
import pytest
import torch

from difftori_pl import load_policy
from difftori_pl.cli import SHIPPED_CONFIGS
from tests.rl_runs import ON_A_POINT, Fit, assert_same, everything, fit, in_process, last_checkpoint

__all__ = ["fit", "in_process"]

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
