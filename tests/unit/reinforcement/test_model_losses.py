"""The losses of the world model against step-by-step and numpy references."""

import numpy as np
import torch

from difftori_pl import (
    ReplayedStates,
)
from difftori_pl.losses import consistency, horizon_weights, policy_gradient, td_target, value_error
from tests.unit.reinforcement.small_module import B, H, make, make_batch


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
