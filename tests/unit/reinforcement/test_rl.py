"""The order of an update, plans from one action to the next, the target network, and settings that are refused."""

from typing import Any

import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from difftori_pl import (
    DiffTORIRL,
    ExecutedActions,
    LinearSchedule,
    Planner,
    ReplayedStates,
)
from difftori_pl.callbacks import Collect
from difftori_pl.errors import CheckpointError, ConfigurationError
from tests.unit.reinforcement.small_module import OBS, A, H, make, make_batch


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: make(discount=1.1), "discount and target_rate must be at most 1, got 1.1"),
        (lambda: make(discount=0.0), "discount must be above 0"),
        (lambda: make(target_period=0), "target_period must be above 0"),
        (lambda: make(max_grad_norm=-1.0), "max_grad_norm must be above 0"),
        (lambda: make(horizon_schedule=LinearSchedule(0, 5, 10)), "horizon_schedule must be above 0, got 0"),
        (lambda: make(exploration=LinearSchedule(0.5, -0.1, 10)), "exploration must be 0 or above, got -0.1"),
        (lambda: ReplayedStates(weight=-1.0), "weight must be 0 or above, got -1.0"),
        (lambda: LinearSchedule(0.0, 1.0, -1), "n_env_steps must not be negative, got -1"),
        (lambda: Planner(make().planner.trajopt, n_policy_starts=-1), "n_policy_starts must be 0 or above"),
        (lambda: ExecutedActions(learning_rate=0.0), "learning_rate must be above 0"),
        (lambda: Collect(n_envs=0), "n_envs must be above 0"),
        (lambda: Collect(first_seed=-5), "first_seed must be 0 or above"),
    ],
)
def test_numbers_out_of_range_are_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_training_without_a_buffer_is_refused() -> None:
    loader: DataLoader[Any] = DataLoader([0])  # type: ignore[arg-type]
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1,
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"needs a ReplayDataModule, got none: call Trainer\.fit"):
        trainer.fit(make(), loader)


def test_solver_statistics_are_logged() -> None:
    module, logged = make(ReplayedStates()), {}
    module.log_dict = lambda values, **options: logged.update(values)  # type: ignore[method-assign]
    module.plan_loss(make_batch()["obs"])
    assert logged.keys() == {"step"} | {
        f"solver/{name}" for name in ("failed_fraction", "steps", "grad_norm", "value_gain")
    }
    assert logged["solver/failed_fraction"] == 0
    assert logged["solver/steps"] == 6
    assert logged["solver/grad_norm"] > 0
    assert logged["solver/value_gain"] > 0


def test_the_plan_is_shifted_by_one_step() -> None:
    module = make()
    obs = {"state": torch.randn(2, 1, OBS, dtype=torch.float64)}
    state = module.initial_state(2)
    solution = module.plan(obs, state["plan"])
    action, state = module.act(obs, state)
    torch.testing.assert_close(action, solution.best_actions[:, 0].detach())
    torch.testing.assert_close(state["plan"][:, :-1], solution.actions[:, 1:].detach())
    assert not state["plan"][:, -1].any()


@pytest.mark.parametrize(
    ("n_policy_starts", "warm_start", "expected"), [(1, False, 1), (0, False, 1), (3, True, 4), (0, True, 1)]
)
def test_starts(n_policy_starts: int, warm_start: bool, expected: int) -> None:
    module = make()
    planner = Planner(module.planner.trajopt, n_policy_starts, warm_start)
    last = torch.full((2, H, A), 0.25, dtype=torch.float64)
    latent = torch.randn(2, 5, dtype=torch.float64)
    starts = planner._starts(module.world_model, latent, H, last)
    assert starts.shape == (2, expected, H, A)
    if warm_start:
        torch.testing.assert_close(starts[:, 0], last)
    elif n_policy_starts == 0:
        assert not starts.any()
    if n_policy_starts > 0:
        first_action = starts[:, int(warm_start), 0]
        torch.testing.assert_close(first_action, torch.tanh(module.world_model.pi(latent)))


@pytest.mark.parametrize(("env_step", "value"), [(0, 1.0), (5, 2.0), (10, 3.0), (20, 3.0)])
def test_schedule(env_step: int, value: float) -> None:
    assert LinearSchedule(1, 3, 10)(env_step) == pytest.approx(value)


def test_the_target_moves_by_the_target_rate() -> None:
    module = make()
    for parameter in module.target.parameters():
        nn.init.zeros_(parameter)
    module._move_target()
    for name, parameter in module.target["world_model"].named_parameters():
        torch.testing.assert_close(parameter, 0.01 * module.world_model.get_parameter(name))


def test_a_checkpoint_of_other_sizes_is_refused() -> None:
    module = make()
    state = module.state_dict()
    name = next(iter(state))
    state[name] = torch.zeros(1, 2, 3)
    with pytest.raises(CheckpointError, match=r"in the checkpoint, got \(1, 2, 3\)"):
        module.on_load_checkpoint({"state_dict": state})


@pytest.mark.parametrize("act", [DiffTORIRL.act, DiffTORIRL.explore])
def test_a_failed_plan_gives_nan_only_for_its_element(act: Any) -> None:
    module = make()
    state = torch.zeros(2, 1, OBS, dtype=torch.float64)
    state[0, 0, 0] = torch.nan
    action, _ = act(module, {"state": state}, module.initial_state(2))
    assert torch.isfinite(action).all(-1).tolist() == [False, True]
