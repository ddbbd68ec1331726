"""The two forms of the policy gradient against each other, and when they step."""

import pytest
import torch

from difftori_pl import (
    MPPI,
    Detached,
    DiffTORIRL,
    ExecutedActions,
    LevenbergMarquardt,
    Planner,
    ReplayedStates,
    TrajOptLayer,
)
from difftori_pl.errors import ConfigurationError
from tests.unit.reinforcement.small_module import OBS, A, H, make, make_batch


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


@pytest.mark.parametrize(("n_policy_starts", "expected"), [(1, 1), (0, 1), (3, 3)])
def test_replayed_states_have_no_last_plan(n_policy_starts: int, expected: int) -> None:
    module = make()
    planner = Planner(module.planner.trajopt, n_policy_starts, warm_start=True)
    starts = planner._starts(module.world_model, torch.randn(2, 5, dtype=torch.float64), H, None)
    assert starts.shape == (2, expected, H, A)
    assert starts.any() == (n_policy_starts > 0)


def test_a_policy_gradient_needs_a_critic() -> None:
    with pytest.raises(ConfigurationError, match="set both"):
        make(ReplayedStates(), critic=None)


def test_a_policy_gradient_needs_a_differentiable_planner() -> None:
    with pytest.raises(ConfigurationError, match="backward mode is Detached"):
        make(ReplayedStates(), planner=Planner(TrajOptLayer(LevenbergMarquardt(), Detached())))
