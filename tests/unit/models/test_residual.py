import torch
from torch.testing import assert_close

from difftori_pl.models.base_policies import BC, BCRNNGMM, Residual
from difftori_pl.models.encoders import StateEncoder


def residual() -> Residual:
    torch.manual_seed(0)
    base = BCRNNGMM(StateEncoder({"x": 3}, None), action_dim=2, hidden_dim=8, restart_after=4)
    return Residual(base, StateEncoder({"x": 3}, None), hidden_dims=(8,))


@torch.no_grad()
def test_an_untrained_residual_equals_its_base_policy() -> None:
    policy = residual().eval()
    obs = {"x": torch.randn(5, 6, 3)}
    torch.manual_seed(1)
    expected, _ = policy.base.propose(obs, 3, policy.base.initial_state(5))
    torch.manual_seed(1)
    actions, _ = policy.propose(obs, 3, policy.initial_state(5))
    assert torch.equal(actions, expected)
    torch.manual_seed(1)
    posterior, _ = policy.base.propose_posterior(obs, expected, policy.base.initial_state(5))
    torch.manual_seed(1)
    assert torch.equal(policy.propose_posterior(obs, expected, policy.initial_state(5))[0], posterior)


def test_training_reduces_the_loss_and_does_not_change_the_base_policy() -> None:
    torch.manual_seed(0)
    policy = Residual(BC(StateEncoder({"x": 3}, None), 2, hidden_dims=()), StateEncoder({"x": 3}, None), (32,))
    before = {name: value.clone() for name, value in policy.base.state_dict().items()}
    policy.normalizer.get_buffer("actions_std").copy_(torch.tensor([0.5, 0.1]))
    x = torch.rand(64, 4, 3) * 2 - 1
    actions = torch.stack([0.8 * x[..., 0], 0.1 * x[..., 1] * x[..., 2]], dim=-1)
    optimizer = torch.optim.Adam((p for p in policy.parameters() if p.requires_grad), lr=1e-2)
    first = policy.loss({"x": x}, actions).mean()
    for _ in range(150):
        optimizer.zero_grad()
        policy.loss({"x": x}, actions).mean().backward()
        optimizer.step()
    assert policy.loss({"x": x}, actions).mean() < 0.05 * first
    assert not policy.train().base.training
    assert_close(policy.base.state_dict(), before, rtol=0, atol=0)


def test_the_loss_is_in_standard_deviations() -> None:
    policy = residual().eval()
    policy.normalizer.get_buffer("actions_std").copy_(torch.tensor([0.5, 0.1]))
    obs = {"x": torch.randn(2, 4, 3)}
    torch.manual_seed(1)
    proposed, _ = policy.propose(obs, 1, policy.initial_state(2))
    torch.manual_seed(1)
    shifted = proposed[:, :, 0] - torch.tensor([0.5, 0.1])
    assert_close(policy.loss(obs, shifted), torch.full((2, 4), 2.0))
