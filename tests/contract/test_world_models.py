"""Every world model plans with every kind of solver, and trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from difftori_pl import (
    DiffTORIRL,
    LinearSchedule,
    ObservationCritic,
    Planner,
    ReplayedStates,
    StateEncoder,
    TrajOptLayer,
)
from difftori_pl.models.latent_model import LatentModel
from difftori_pl.models.policy import Observation
from difftori_pl.trajopt import RolloutReturn
from difftori_pl.trajopt.backward import Detached, Unroll
from difftori_pl.trajopt.solvers import MPPI, Adam, LevenbergMarquardt, Solver
from tests.cases import POSITION, WORLD_MODELS

B, H, A = 5, 3, 2
SOLVERS: dict[str, Callable[[], Solver]] = {
    "mppi": lambda: MPPI(3, 32, 8),
    "adam": lambda: Adam(5, 0.1),
    "levenberg_marquardt": lambda: LevenbergMarquardt(5, 1e-2, 0.1),
}
every_model = pytest.mark.parametrize("build", WORLD_MODELS.values(), ids=WORLD_MODELS)


def nonzero(build: Callable[[], LatentModel]) -> LatentModel:
    """Build a model, and replace parameters that start at zero, so that values depend on actions."""
    torch.manual_seed(0)
    model = build()
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model


def observe(n_steps: int) -> Observation:
    return {"position": torch.rand(B, n_steps, 3, generator=torch.Generator().manual_seed(1))}


def make_batch() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    return {
        "obs": observe(H + 1),
        "actions": 2 * torch.rand(B, H, A, generator=generator) - 1,
        "rewards": torch.rand(B, H, generator=generator),
        "terminated": torch.rand(B, H, generator=generator) > 0.7,
        "weights": torch.ones(B),
    }


def module(model: LatentModel, planner: Planner, **options: Any) -> DiffTORIRL:
    constant = LinearSchedule(H, H, 0)
    built = DiffTORIRL(model, planner, constant, LinearSchedule(0.0, 0.0, 0), **options)
    built.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    return built


@every_model
def test_shapes_and_ranges(build: Callable[[], LatentModel]) -> None:
    model = nonzero(build)
    latent = model.encode(observe(1))[:, 0]
    actions: Tensor = model.act(latent)
    assert actions.shape == (B, A)
    assert torch.equal(actions, model.act(latent))
    samples = model.sample(latent, 0.5)
    assert samples.shape == (B, A)
    assert not torch.equal(samples, model.sample(latent, 0.5))
    for found in (actions, samples):
        assert found.abs().max() <= 1
    assert model.next(latent, actions).shape == latent.shape
    assert model.reward(latent, actions).shape == model.plan_value(latent, actions).shape == (B,)
    values = model.values(latent, actions)
    assert values.shape[1:] == (B,)
    assert (values.amin(0) - 1e-6 <= model.plan_value(latent, actions)).all()
    assert (model.plan_value(latent, actions) <= values.amax(0) + 1e-6).all()


@every_model
def test_continuation_is_a_probability_of_episodic_models_only(build: Callable[[], LatentModel]) -> None:
    model = nonzero(build)
    latent = model.encode(observe(1))[:, 0]
    if model.episodic:
        assert model.continuation(latent).shape == (B,)
        assert ((model.continuation(latent) > 0) & (model.continuation(latent) < 1)).all()
    else:
        with pytest.raises(NotImplementedError, match="has no termination head"):
            model.continuation(latent)


@every_model
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_plans_are_at_least_as_good_as_their_starts(
    build: Callable[[], LatentModel], solver: Callable[[], Solver]
) -> None:
    model = nonzero(build)
    planner = Planner(TrajOptLayer(solver(), Detached()), n_policy_starts=3)
    found: list[Tensor] = []
    choose = planner._starts
    planner._starts = lambda *args: found.append(choose(*args)) or found[-1]  # type: ignore[method-assign,func-returns-value]
    goes_on = model.continuation if model.episodic else None
    objective = RolloutReturn(model.reward, model.next, model.plan_value, model.act, 0.9, goes_on)
    with torch.no_grad():
        latent = model.encode(observe(1))[:, 0]
        solution = planner(model, 0.9, latent, H)
        (starts,) = found
        before = objective(latent.repeat_interleave(3, 0), starts.flatten(0, 1)).view(B, 3).amax(1)
        torch.testing.assert_close(objective(latent, solution.best_actions), solution.best_value, rtol=1e-4, atol=1e-5)
    assert (solution.best_value > before).all()
    assert solution.best_actions.abs().max() <= 1


@every_model
def test_an_update_changes_every_part(build: Callable[[], LatentModel]) -> None:
    model = nonzero(build)
    trained = module(model, Planner(TrajOptLayer(MPPI(1, 8, 2), Detached())), target_period=1)
    before = {name: parameter.clone() for name, parameter in trained.named_parameters()}
    values, priorities = trained.update(make_batch(), *trained.configure_optimizers())
    assert priorities.shape == (B,)
    assert (priorities >= 0).all()
    assert all(torch.isfinite(value) for value in values.values())
    same = [name for name, parameter in trained.named_parameters() if torch.equal(parameter, before[name])]
    averaged = {f"target.world_model.{name}" for name, _ in model.averaged.named_parameters()}
    own = {f"world_model.{name}" for name, _ in model.named_parameters()}
    assert own | averaged == before.keys()
    # The target's policy, dynamics and reward change too in TD-MPC, which averages the whole model.
    assert not same


@every_model
def test_the_policy_gradient_reaches_the_model(build: Callable[[], LatentModel]) -> None:
    model = nonzero(build)
    critic = ObservationCritic(StateEncoder(POSITION, 6, [8], normalize=False), A, 16)
    nn.init.normal_(critic.value.weights[2])
    planner = Planner(TrajOptLayer(Adam(3, 0.02, epsilon=0.3), Unroll()))
    trained = module(model, planner, critic=critic, policy_gradient=ReplayedStates())
    loss = trained.plan_loss(observe(H + 1))
    assert loss is not None
    gradients = torch.autograd.grad(loss, trained._model_parameters(), allow_unused=True)
    assert sum(bool(gradient is not None and gradient.any()) for gradient in gradients) > len(gradients) // 2
    trained.update(make_batch(), *trained.configure_optimizers())
    assert all(torch.isfinite(parameter).all() for parameter in trained.parameters())


@every_model
def test_the_encoder_has_its_relative_learning_rate(build: Callable[[], LatentModel]) -> None:
    model = nonzero(build)
    trained = module(model, Planner(TrajOptLayer(MPPI(1, 8, 2), Detached())))
    optimizer, policy_optimizer = trained.configure_optimizers()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    slow = {id(parameter) for parameter in model.encoder_parameters()}
    assert rates.keys() == {id(parameter) for parameter in trained._model_parameters()}
    for key, rate in rates.items():
        assert rate == pytest.approx(1e-3 * (model.encoder_rate if key in slow else 1.0))
    assert [group["lr"] for group in policy_optimizer.param_groups] == [1e-3]
