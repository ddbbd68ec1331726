import pytest
import torch

from difftori_pl.models.action_samplers import ActionSampler, Langevin
from difftori_pl.models.base_policies import IBC, Zeros
from difftori_pl.models.encoders import StateEncoder
from tests import cases


@pytest.fixture(params=cases.SAMPLERS.values(), ids=[part.__name__ for part in cases.SAMPLERS])
def sampler(request: pytest.FixtureRequest) -> ActionSampler:
    torch.manual_seed(0)
    made: ActionSampler = request.param()
    return made


def test_samples_concentrate_at_low_energy(sampler: ActionSampler) -> None:
    lowest = torch.tensor([[[0.3, -0.6]], [[-0.9, 0.2]]])

    def energy(actions: torch.Tensor) -> torch.Tensor:
        return 50.0 * (actions - lowest).square().sum(-1)

    samples = sampler.sample(energy, torch.rand(2, 256, 2) * 2 - 1)
    assert samples.abs().max() <= 1.0
    assert (samples - lowest).norm(dim=-1).median() < 0.25
    best = samples[torch.arange(2), energy(samples).argmin(1)]
    assert (best - lowest[:, 0]).norm(dim=-1).max() < 0.05


def test_both_modes_of_a_bimodal_distribution_are_learned(sampler: ActionSampler) -> None:
    policy = IBC(StateEncoder({"x": 1}, None), 1, sampler, n_counter_examples=32, n_samples=64, hidden_dims=(64, 64))
    x = torch.rand(128, 1, 1)
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(200):
        side = torch.randint(2, (128, 1, 1)) * 2.0 - 1.0
        optimizer.zero_grad()
        policy.loss({"x": x}, 0.7 * side).mean().backward()
        optimizer.step()
    energies = policy.energy(torch.full((1, 1), 0.5), torch.tensor([[[-0.7], [0.0], [0.7]]]))[0]
    assert energies[1] > energies[[0, 2]].max() + 0.5
    with torch.inference_mode():
        actions, _ = policy.propose({"x": torch.rand(8, 1, 1)}, 1, policy.initial_state(8))
        # Validation and testing compute the loss in inference mode.
        assert torch.isfinite(policy.loss({"x": torch.rand(8, 2, 1)}, torch.rand(8, 2, 1))).all()
    assert (actions.abs() - 0.7).abs().max() < 0.25


def test_the_search_starts_from_the_base_policys_action() -> None:
    policy = IBC(StateEncoder({"x": 1}, None), 2, Langevin(n_steps=0), Zeros(2), start_std=0.02, n_samples=8)
    actions, _ = policy.propose({"x": torch.rand(16, 3, 1)}, 2, policy.initial_state(16))
    assert actions.shape == (16, 3, 2, 2)
    assert 0.0 < actions.abs().max() < 0.1
    assert set(policy.reference_policies()) == {"base"}


def test_the_gradient_penalty_is_the_squared_excess_over_one() -> None:
    policy = IBC(StateEncoder({"x": 1}, None), 2, gradient_penalty=1.0, hidden_dims=())
    steepness = policy._steepness(torch.zeros(3, 1), torch.rand(3, 5, 2))
    slope = policy.net[-1].weight[0, 1:].abs().max()  # type: ignore[union-attr]
    assert torch.allclose(steepness, (slope - 1).clamp(min=0).square())
    with torch.no_grad():
        policy.net[-1].weight[0, 1:] = torch.tensor([3.0, -1.0])  # type: ignore[index,union-attr]
    assert torch.allclose(policy._steepness(torch.zeros(3, 1), torch.rand(3, 5, 2)), torch.tensor(4.0))
