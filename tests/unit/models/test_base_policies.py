import pytest
import torch
from torch.testing import assert_close

from difftori_pl.models.base_policies import (
    BC,
    BCRNNGMM,
    LearnedPolicy,
)
from difftori_pl.models.encoders import StateEncoder
from tests import cases


def test_normalised_bc_weights_all_action_components_equally() -> None:
    obs = {"x": torch.randn(2, 4, 3)}
    for normalize, expected in ((True, 2.0), (False, 0.26)):
        policy = BC(StateEncoder({"x": 3}), action_dim=2, hidden_dims=(8,), normalize_actions=normalize).eval()
        if policy.normalizer:
            policy.normalizer.get_buffer("actions_std").copy_(torch.tensor([0.5, 0.1]))
        proposed, _ = policy.propose(obs, 1, policy.initial_state(2))
        shifted = proposed[:, :, 0] - torch.tensor([0.5, 0.1])
        assert_close(policy.loss(obs, shifted), torch.full((2, 4), expected))


def test_an_update_moves_bc_by_a_fraction_of_each_components_spread() -> None:
    torch.manual_seed(0)
    policy = BC(StateEncoder({"x": 3}), action_dim=2, hidden_dims=(64,), normalize_actions=True)
    mean, std = torch.tensor([0.3, -0.5]), torch.tensor([0.01, 1.0])
    policy.normalizer.get_buffer("actions_mean").copy_(mean)
    policy.normalizer.get_buffer("actions_std").copy_(std)
    obs, optimizer = {"x": torch.randn(50, 4, 3)}, torch.optim.Adam(policy.parameters(), lr=1e-3)
    before, _ = policy(obs, policy.initial_state(50))
    policy.loss(obs, mean.expand(50, 4, 2)).mean().backward()
    optimizer.step()
    after, _ = policy(obs, policy.initial_state(50))
    moved = ((after - before) / std).abs().mean((0, 1))
    assert moved.max() < 0.3
    assert 0.3 < moved[0] / moved[1] < 3.0
    policy.head[-1].bias.data.fill_(1e3)
    proposed, _ = policy.propose(obs, 1, policy.initial_state(50))
    assert (proposed == 1.0).all()


def test_posterior_proposals_of_a_mixture_follow_the_responsibilities() -> None:
    torch.manual_seed(0)
    policy = BCRNNGMM(StateEncoder({"x": 3}, None), action_dim=2, hidden_dim=8, n_modes=3, min_std=0.2)
    obs = {"x": torch.randn(1, 1, 3).expand(20_000, 1, 3)}
    demonstrated = torch.tensor([0.3, -0.4]).expand(20_000, 1, 1, 2)
    state = policy.initial_state(20_000)
    with torch.no_grad():
        mixture, _ = policy({"x": obs["x"][:1]}, policy.initial_state(1))
        proposed, _ = policy.propose_posterior(obs, demonstrated, state)
    means, std = (
        mixture.component_distribution.base_dist.loc[0, 0],
        mixture.component_distribution.base_dist.scale[0, 0],
    )
    distance = ((means - demonstrated[0, 0]) / std).square().sum(-1)
    expected = mixture.mixture_distribution.probs[0, 0] * torch.exp(-0.5 * distance) / std.prod(-1)
    nearest = torch.cdist(proposed[:, 0, 0], means).argmin(-1)
    drawn = torch.bincount(nearest, minlength=3) / 20_000
    assert_close(drawn, expected / expected.sum(), atol=0.015, rtol=0.0)


@pytest.mark.parametrize("name", ["bc", "bc_rnn_gmm"])
def test_a_learned_policy_fits_a_linear_function(name: str) -> None:
    torch.manual_seed(0)
    policy: LearnedPolicy = cases.BASE_POLICIES[name]()
    x = torch.rand(64, 4, 3) * 2 - 1
    actions = 0.8 * x[..., :2]
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)
    for _ in range(400):
        optimizer.zero_grad()
        loss = policy.loss({"position": x}, actions)
        assert loss.shape == (64, 4)
        loss.mean().backward()
        optimizer.step()
    proposed, _ = policy.eval().propose({"position": x}, 1, policy.initial_state(64))
    assert (proposed[:, :, 0] - actions).square().sum(-1).mean() < 0.03


def test_the_likelihood_of_one_mode_is_that_of_a_gaussian() -> None:
    torch.manual_seed(0)
    policy = BCRNNGMM(StateEncoder({"x": 3}, None), action_dim=2, hidden_dim=8, n_modes=1, min_std=0.5)
    obs, actions = {"x": torch.randn(2, 3, 3)}, torch.rand(2, 3, 2)
    mixture, _ = policy(obs, policy.initial_state(2))
    mean, std = mixture.component_distribution.mean[:, :, 0], mixture.component_distribution.stddev[:, :, 0]
    expected = -torch.distributions.Normal(mean, std).log_prob(actions).sum(-1)
    assert_close(policy.loss(obs, actions), expected)
    assert std.min() > 0.5


def test_proposals_of_a_mixture_are_its_means() -> None:
    torch.manual_seed(0)
    policy = BCRNNGMM(StateEncoder({"x": 3}, None), action_dim=2, hidden_dim=8)
    obs = {"x": torch.randn(20, 4, 3)}
    proposed, _ = policy.propose(obs, 1, policy.initial_state(20))
    mixture, _ = policy(obs, policy.initial_state(20))
    distance = (mixture.component_distribution.mean - proposed).norm(dim=-1).min(dim=-1).values
    assert distance.max() < 1e-3
