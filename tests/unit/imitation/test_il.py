import pytest
import torch
from lightning import Trainer
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from difftori_pl import (
    DiffTORIIL,
    LatentDynamics,
    LevenbergMarquardt,
    Noise,
    RecurrentEncoder,
    StateEncoder,
    StraightThroughProjection,
    TrajOptLayer,
    Truncated,
    Zeros,
)
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.policy import Observation, State


def policy(base: BasePolicy | None = None, horizon: int = 1, chunked: bool = False, **options: float) -> DiffTORIIL:
    torch.manual_seed(0)
    return DiffTORIIL(
        encoder=RecurrentEncoder(StateEncoder({"x": 3}, None), hidden_dim=16, restart_after=8, latent_dim=6),
        base_policy=base or Zeros(2),
        trajopt=TrajOptLayer(LevenbergMarquardt(max_steps=10), Truncated(n_steps=5), StraightThroughProjection()),
        dynamics=LatentDynamics if horizon > 1 and not chunked else None,
        horizon=horizon,
        chunked=chunked,
        **options,  # type: ignore[arg-type]
    )


def batch(n_windows: int = 4, n_steps: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(n_windows, n_steps, 3, generator=generator) * 2 - 1
    index = torch.zeros(n_windows, dtype=torch.long)
    mask = torch.ones(n_windows, n_steps, dtype=torch.bool)
    return {"obs": {"x": x}, "actions": 0.8 * x[..., :2], "mask": mask, "demo": index, "start": index}


def loss_of(module: DiffTORIIL, windows: Batch) -> Tensor:
    module.log_dict = lambda *arguments, **options: None  # type: ignore[assignment]
    return module.training_step(windows, 0)


def test_an_untrained_policy_returns_the_proposals() -> None:
    module = policy(Noise(2))
    latent, proposals, _, _ = module._problems(batch())
    solution = module.decode(latent, module.sample_prior(latent), proposals)
    assert torch.equal(solution.actions, proposals)


class PriorAndPosterior(BasePolicy):
    """Proposes zeros, and half the demonstrated actions as posterior proposals."""

    action_dim = 2

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        return torch.zeros(*obs["x"].shape[:2], horizon, 2), state

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        return 0.5 * actions, state


def test_posterior_proposals_are_used_in_training_only() -> None:
    module, windows = policy(PriorAndPosterior()), batch()
    _, proposals, targets, _ = module.train()._problems(windows)
    assert_close(proposals, 0.5 * targets)
    _, proposals, _, _ = module.eval()._problems(windows)
    assert_close(proposals, torch.zeros_like(targets))


@pytest.mark.parametrize("horizon", [1, 3])
def test_each_problem_is_aligned_with_its_targets(horizon: int) -> None:
    windows = batch()
    windows["mask"][1, 4:] = False
    latent, proposals, targets, mask = policy(horizon=horizon)._problems(windows)
    n_steps = 6 - horizon + 1
    assert latent.shape == (4 * n_steps, 6)
    assert proposals.shape == targets.shape == (4 * n_steps, horizon, 2)
    for window in range(4):
        for step in range(n_steps):
            row = window * n_steps + step
            assert torch.equal(targets[row], windows["actions"][window, step : step + horizon])
            assert mask[row] == windows["mask"][window, step : step + horizon].all()


def test_problems_are_scaled_by_standard_deviations_and_actions_are_not() -> None:
    windows, module = batch(), policy(Noise(2), prior_temperature=0.0).eval()
    module.action_scale.copy_(torch.tensor([0.5, 0.25]))
    _, _, targets, _ = module._problems(windows)
    assert torch.equal(targets.view(4, 6, 2), windows["actions"] * torch.tensor([2.0, 4.0]))
    torch.manual_seed(2)
    proposed, _ = module.base_policy.propose(windows["obs"], 1, {})
    torch.manual_seed(2)
    assert_close(module.predict_step(windows, 0), proposed.flatten(0, 1))
    assert proposed.abs().max() > 0.9


def test_padded_steps_do_not_affect_the_loss() -> None:
    windows = batch()
    windows["mask"][:, 4:] = False
    module = policy()
    torch.manual_seed(0)
    before = loss_of(module, windows)
    windows["actions"][:, 4:] = 0.9
    torch.manual_seed(0)
    assert_close(loss_of(module, windows), before)


@pytest.mark.parametrize(("horizon", "chunked"), [(1, False), (3, False), (3, True)])
def test_every_trainable_parameter_gets_a_gradient_and_the_base_none(horizon: int, chunked: bool) -> None:
    module = policy(horizon=horizon, chunked=chunked)
    torch.nn.init.normal_(module.score.net[-1].weight, std=0.1)
    loss_of(module, batch()).backward()
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0.0, name
        else:
            assert parameter.grad is None, name
            assert name.startswith("base_policy.")


def test_training_through_the_optimiser_reduces_the_error_of_the_base_policy() -> None:
    module = policy(kl_weight=0.001)
    windows = batch(n_windows=32)
    optimizer = torch.optim.Adam((p for p in module.parameters() if p.requires_grad), lr=1e-3)
    base_error = windows["actions"].square().sum(-1).mean()
    for _ in range(80):
        optimizer.zero_grad()
        loss = loss_of(module, windows)
        loss.backward()
        optimizer.step()
    assert loss < 0.4 * base_error


def test_acting_step_by_step_equals_the_window() -> None:
    module = policy(prior_temperature=0.0).eval()
    torch.nn.init.normal_(module.score.net[-1].weight, std=0.1)
    windows = batch()
    expected = module.predict_step(windows, 0).view(4, 6, 2)
    state = module.initial_state(4)
    with torch.inference_mode():
        for step in range(6):
            actions, state = module.act({"x": windows["obs"]["x"][:, step : step + 1]}, state)
            assert_close(actions, expected[:, step])


def test_prior_samples_are_scaled_by_the_temperature() -> None:
    latent = torch.zeros(5, 6)
    assert torch.equal(policy(prior_temperature=0.0).sample_prior(latent), torch.zeros(5, 64))
    assert policy(prior_temperature=1.0).sample_prior(latent).std() > 0.5


def test_the_base_policy_stays_in_evaluation_mode() -> None:
    module = policy().train()
    assert module.encoder.training
    assert not module.base_policy.training


def test_chunks_are_solved_at_the_steps_where_they_begin_when_acting() -> None:
    windows = batch(n_steps=8)
    windows["mask"][1, 4:] = False
    latent, proposals, targets, mask = policy(horizon=3, chunked=True)._problems(windows)
    assert latent.shape == (4 * 2, 6)
    assert proposals.shape == targets.shape == (4 * 2, 3, 2)
    for row in range(8):
        window, step = row // 2, row % 2 * 3
        assert torch.equal(targets[row], windows["actions"][window, step : step + 3])
        assert mask[row] == windows["mask"][window, step : step + 3].all()


def test_a_chunk_is_executed_to_its_end_before_the_next_is_solved() -> None:
    module = policy(horizon=3, chunked=True, prior_temperature=0.0).eval()
    torch.nn.init.normal_(module.score.net[-1].weight, std=0.1)
    module.action_scale.copy_(torch.tensor([0.5, 0.25]))
    windows = batch(n_steps=8)
    chunks = module.predict_step(windows, 0).view(4, 2, 3, 2)
    state, late = module.initial_state(4), module.initial_state(4)
    with torch.inference_mode():
        for step in range(6):
            obs = {"x": windows["obs"]["x"][:, step : step + 1]}
            actions, state = module.act(obs, state)
            assert_close(actions, chunks[:, step // 3, step % 3])
            if step == 1:  # episodes of one batch may differ in age
                late = {name: torch.cat([state[name][:2], late[name][2:]]) for name in state}
            if step > 1:
                actions, late = module.act(
                    {"x": torch.cat([obs["x"][:2], windows["obs"]["x"][2:, step - 2 : step - 1]])}, late
                )
                assert_close(actions[:2], chunks[:2, step // 3, step % 3])
                assert_close(actions[2:], chunks[2:, (step - 2) // 3, (step - 2) % 3])


@pytest.mark.parametrize("dynamics", [None, LatentDynamics])
def test_a_chunk_has_no_dynamics(dynamics: type[LatentDynamics] | None) -> None:
    trajopt = TrajOptLayer(LevenbergMarquardt(), Truncated(n_steps=5))
    encoder = StateEncoder({"x": 3})
    if dynamics is None:
        assert DiffTORIIL(encoder, Zeros(2), trajopt, horizon=3, chunked=True).dynamics is None
    else:
        with pytest.raises(ConfigurationError, match="a chunk of 3 does not use dynamics"):
            DiffTORIIL(encoder, Zeros(2), trajopt, dynamics=dynamics, horizon=3, chunked=True)


@pytest.mark.parametrize(("horizon", "dynamics"), [(3, None), (1, LatentDynamics), (0, None)])
def test_only_horizons_above_one_require_dynamics(horizon: int, dynamics: type[LatentDynamics] | None) -> None:
    trajopt = TrajOptLayer(LevenbergMarquardt(), Truncated(n_steps=5))
    with pytest.raises(ConfigurationError, match="dynamics"):
        DiffTORIIL(StateEncoder({"x": 3}), Zeros(2), trajopt, dynamics=dynamics, horizon=horizon)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_failed_solve_gives_nan_to_its_element_only(chunked: bool) -> None:
    module = policy(horizon=2 if chunked else 1, chunked=chunked).eval()
    x = torch.tensor([[[0.1, 0.2, torch.nan]], [[0.1, 0.2, 0.3]]])
    action, _ = module.act({"x": x}, module.initial_state(2))
    assert torch.isfinite(action).all(-1).tolist() == [False, True]
    assert torch.isnan(action[0]).all()


@pytest.mark.parametrize("normalize", [True, False])
def test_training_without_a_datamodule_is_refused(normalize: bool) -> None:
    module = policy()
    module.encoder = StateEncoder({"x": 3}, latent_dim=6, normalize=normalize)
    trainer = Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=1, limit_val_batches=0,
    )  # fmt: skip
    with pytest.raises(ConfigurationError, match=r"a datamodule.*pass `datamodule=` to Trainer\.fit"):
        trainer.fit(module, DataLoader([0]), DataLoader([0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"kl_weight": -1.0}, {"prior_temperature": -0.1}, {"proposal_noise": -1.0}])
def test_negative_options_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match=f"{next(iter(options))} must be 0 or above"):
        policy(**options)
