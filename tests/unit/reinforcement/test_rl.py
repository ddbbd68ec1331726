"""Losses against step-by-step and numpy references, and the two forms of the policy gradient against each other."""

from typing import Any

import numpy as np
import pytest
import torch
from lightning import Trainer
from torch import nn
from torch.utils.data import DataLoader

from difftori_pl import (
    MPPI,
    TDMPC,
    Detached,
    DiffTORIRL,
    ExecutedActions,
    LevenbergMarquardt,
    LinearSchedule,
    ObservationCritic,
    Planner,
    ReplayedStates,
    StateEncoder,
    TrajOptLayer,
    Truncated,
)
from difftori_pl.callbacks import Collect
from difftori_pl.errors import CheckpointError, ConfigurationError
from difftori_pl.losses import consistency, horizon_weights, policy_gradient, td_target, value_error
from tests.replayed import replayed_batch

B, H, OBS, A = 6, 3, 4, 2


def make(policy_gradient: Any = None, **options: Any) -> DiffTORIRL:
    torch.manual_seed(0)

    def encoder() -> StateEncoder:
        return StateEncoder({"state": OBS}, 5, [8], normalize=False)

    layer = TrajOptLayer(LevenbergMarquardt(6, 1e-3, 0.1), Truncated(3))
    module = DiffTORIRL(
        **{
            "world_model": TDMPC(encoder(), A, 16),
            "planner": Planner(layer),
            "horizon_schedule": LinearSchedule(H, H, 0),
            "exploration": LinearSchedule(0.0, 0.0, 0),
            "critic": ObservationCritic(encoder(), A, 16) if policy_gradient else None,
            "policy_gradient": policy_gradient,
            "policy_std": 0.0,
            **options,
        }
    ).double()
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    # Heads that start at zero would make comparisons pass by accident.
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return module


def make_batch() -> dict[str, Any]:
    return replayed_batch(B, H, OBS, A)


def test_td_target_against_numpy() -> None:
    reward, value = np.random.default_rng(0).random((2, 4, 3))
    terminated = np.array([[True, False, False]] * 4)
    expected = reward + 0.9 * value * ~terminated
    found = td_target(*(torch.from_numpy(array) for array in (reward, value, terminated)), 0.9)
    np.testing.assert_allclose(found.numpy(), expected)


def test_td_target_ignores_an_infinite_value_after_termination() -> None:
    end = td_target(torch.tensor([1.0]), torch.tensor([torch.inf]), torch.tensor([True]), 0.9)
    assert end.tolist() == [1.0]


def test_loss_terms_by_hand() -> None:
    assert consistency(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.0, 0.0]])).tolist() == [2.5]
    assert value_error(torch.tensor([[1.0], [4.0]]), torch.tensor([2.0])).tolist() == [5.0]
    assert horizon_weights(3, 0.5, torch.zeros(1)).tolist() == [1.0, 0.5, 0.25]
    assert policy_gradient(torch.tensor([[3.0], [2.0]])).tolist() == [-2.0]


def test_model_loss_against_a_step_by_step_reference() -> None:
    module, batch = make(ReplayedStates()), make_batch()
    model, target, critic = module.world_model, module.target, module.critic
    with torch.no_grad():  # make the target differ from the trained networks
        for parameter in target.parameters():
            parameter.mul_(0.9)
    total = torch.zeros(B, dtype=torch.float64)
    priorities = torch.zeros(B, dtype=torch.float64)
    latent = model.encode({"state": batch["obs"]["state"][:, :1]})[:, 0]
    for t in range(H):
        now, later = ({"state": batch["obs"]["state"][:, i : i + 1]} for i in (t, t + 1))
        action, reward, terminated = batch["actions"][:, t], batch["rewards"][:, t], batch["terminated"][:, t]
        next_latent = model.encode(later)[:, 0]
        next_action = torch.tanh(model.pi(next_latent)).double()
        q = target["world_model"].values(next_latent, next_action).amin(0)
        y = reward + 0.99 * q * ~terminated
        y_critic = reward + 0.99 * target["critic"](later, next_action[:, None])[:, :, 0].amin(0) * ~terminated
        q1, q2 = model.values(latent, action)
        c1, c2 = critic(now, action[:, None])[:, :, 0]  # type: ignore[misc]
        predicted_reward = model.reward(latent, action)
        latent = model.next(latent, action)
        encoded = target["world_model"].encode(later)[:, 0]
        step = 2.0 * ((latent - encoded) ** 2).mean(1) + 0.5 * (predicted_reward - reward) ** 2
        step = step + 0.1 * ((q1 - y) ** 2 + (q2 - y) ** 2 + (c1 - y_critic) ** 2 + (c2 - y_critic) ** 2)
        total = total + 0.5**t * step
        priorities = priorities + 0.5**t * ((q1 - y).abs() + (q2 - y).abs())
    result = module.model_loss(batch)
    torch.testing.assert_close(result.value, (batch["weights"] * total).mean() / H, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(result.priorities, priorities.detach(), rtol=1e-5, atol=1e-6)


def test_targets_pass_no_gradient() -> None:
    module = make(ReplayedStates())
    gradients = torch.autograd.grad(
        module.model_loss(make_batch()).value, list(module.world_model.pi.parameters()), allow_unused=True
    )
    assert all(gradient is None for gradient in gradients)
    assert not any(parameter.requires_grad for parameter in module.target.parameters())


def test_policy_loss_against_a_reference() -> None:
    module = make()
    latents = torch.randn(B, H + 1, 5, dtype=torch.float64)
    expected = torch.zeros((), dtype=torch.float64)
    for t in range(H + 1):
        action = torch.tanh(module.world_model.pi(latents[:, t]))
        expected = expected - 0.5**t * module.world_model.values(latents[:, t], action).amin(0).mean()
    torch.testing.assert_close(module.world_model.policy_loss(latents, module.settings), expected, rtol=1e-5, atol=1e-6)


def test_executed_actions_add_up_to_the_batched_gradient() -> None:
    """Compare one episode, acted step by step, with the same states in one batch."""
    executed, replayed = ExecutedActions(), ReplayedStates()
    states = torch.randn(7, 1, OBS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    single, batched = make(executed), make(replayed)
    assert all(torch.equal(a, b) for a, b in zip(single.parameters(), batched.parameters(), strict=True))
    memory = single.initial_state(1)
    for state in states:
        _, memory = single.explore({"state": state[None]}, memory)
    loss = batched.plan_loss({"state": states.expand(-1, H + 1, -1)})
    assert loss is not None
    expected = torch.autograd.grad(loss, batched._model_parameters(), allow_unused=True)
    assert executed.gradients is not None
    n_reached = 0
    for found, wanted in zip(executed.gradients, expected, strict=True):
        wanted = torch.zeros_like(found) if wanted is None else len(states) * wanted
        n_reached += int(bool(wanted.any()))
        torch.testing.assert_close(found, wanted, rtol=1e-6, atol=1e-9)
    # The gradient reaches encoder, dynamics, reward and value.
    assert n_reached > len(expected) // 2


def test_fraction_is_relative_to_the_norm_of_the_other_gradients() -> None:
    others = [torch.tensor([3.0]), torch.tensor([[0.0, 4.0]])]
    found = [torch.tensor([0.0]), torch.tensor([[0.0, 2e-2]])]
    expected = [torch.tensor([0.0]), torch.tensor([[0.0, 0.5]])]
    torch.testing.assert_close(ReplayedStates(fraction=0.1).scaled(found, others), expected)
    assert ReplayedStates(weight=0.1).scaled(found, others) is found
    rounding = [1e-9 * gradient for gradient in others]
    torch.testing.assert_close(ReplayedStates(fraction=0.1).scaled(rounding, others), [100 * one for one in rounding])
    nothing = [torch.zeros_like(gradient) for gradient in found]
    for rest in (others, nothing):
        torch.testing.assert_close(ReplayedStates(fraction=0.1).scaled(nothing, rest), nothing)


def test_fraction_cancels_the_scale_of_the_gradient() -> None:
    ends = []
    for fraction, scale in ((0.3, 1.0), (0.3, 40.0), (None, 40.0)):
        module = make(ReplayedStates(fraction=fraction))
        module.policy_gradient.weight = scale
        torch.manual_seed(0)
        module.update(make_batch(), *module.configure_optimizers())
        ends.append(torch.nn.utils.parameters_to_vector(module.world_model.parameters()))
    torch.testing.assert_close(ends[0], ends[1], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(ends[0], ends[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fraction": 0.0}, "fraction must be above 0, got 0.0"),
        ({"fraction": 0.1, "weight": 0.5}, "exclude each other, got weight 0.5 and fraction 0.1"),
    ],
    ids=["zero", "with a weight"],
)
def test_bad_fractions_are_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ReplayedStates(**options)  # type: ignore[arg-type]


def test_zero_states_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="n_states must be at least 1, or null for all states, got 0"):
        ReplayedStates(n_states=0)


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


def test_an_episode_ends_with_one_step_and_a_reset_gradient() -> None:
    gradient = ExecutedActions(learning_rate=1e-2)
    module = make(gradient)
    before = [parameter.clone() for parameter in module._model_parameters()]
    critic = [parameter.clone() for parameter in module.critic.parameters()]  # type: ignore[union-attr]
    module.explore({"state": torch.ones(1, 1, OBS, dtype=torch.float64)}, module.initial_state(1))
    module.on_episodes_end()
    moved = [(now - then).abs().max() for now, then in zip(module._model_parameters(), before, strict=True)]
    assert max(moved) > 5e-3
    assert max(moved) < 1.1e-2  # Adam's first step equals the learning rate
    assert gradient.gradients is None
    assert all(parameter.grad is None for parameter in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(critic, module.critic.parameters(), strict=True))  # type: ignore[union-attr]


def test_a_non_finite_step_of_executed_actions_is_skipped_and_counted() -> None:
    module = make(ExecutedActions(learning_rate=1e-2))
    before = [parameter.clone() for parameter in module._model_parameters()]
    module.explore({"state": torch.ones(1, 1, OBS, dtype=torch.float64)}, module.initial_state(1))
    module.policy_gradient.gradients[0].fill_(torch.nan)  # type: ignore[union-attr,index]
    module.on_episodes_end()
    assert all(torch.equal(now, then) for now, then in zip(module._model_parameters(), before, strict=True))
    assert module._skipped_updates.count == 1


def test_the_moments_of_executed_actions_survive_a_checkpoint() -> None:
    module, again = make(ExecutedActions()), make(ExecutedActions())
    obs = {"state": torch.ones(1, 1, OBS, dtype=torch.float64)}

    def learn(module: DiffTORIRL) -> None:
        module.explore(obs, module.initial_state(1))
        module.on_episodes_end()

    learn(module)
    again.load_state_dict(module.state_dict())
    learn(module)
    learn(again)
    for a, b in zip(module.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_no_gradient_is_taken_while_warming_up() -> None:
    gradient = ExecutedActions()
    sampling = Planner(TrajOptLayer(MPPI(n_samples=16, n_elites=4), Detached()), 2, True)
    module = make(gradient, warmup_planner=sampling, n_warmup_env_steps=100)
    obs = {"state": torch.ones(1, 1, OBS, dtype=torch.float64)}
    module.explore(obs, module.initial_state(1))
    assert gradient.gradients is None
    module.env_step.fill_(100)
    module.explore(obs, module.initial_state(1))
    assert gradient.gradients is not None


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


@pytest.mark.parametrize(("n_policy_starts", "expected"), [(1, 1), (0, 1), (3, 3)])
def test_replayed_states_have_no_last_plan(n_policy_starts: int, expected: int) -> None:
    module = make()
    planner = Planner(module.planner.trajopt, n_policy_starts, warm_start=True)
    starts = planner._starts(module.world_model, torch.randn(2, 5, dtype=torch.float64), H, None)
    assert starts.shape == (2, expected, H, A)
    assert starts.any() == (n_policy_starts > 0)


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


def test_a_policy_gradient_needs_a_critic() -> None:
    with pytest.raises(ConfigurationError, match="set both"):
        make(ReplayedStates(), critic=None)


def test_a_policy_gradient_needs_a_differentiable_planner() -> None:
    with pytest.raises(ConfigurationError, match="backward mode is Detached"):
        make(ReplayedStates(), planner=Planner(TrajOptLayer(LevenbergMarquardt(), Detached())))


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
