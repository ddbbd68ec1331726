"""The networks and every loss term of TD-MPC2 against hand-computed examples."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from difftori_pl import TDMPC2, StateEncoder
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.symlog_bins import symexp, symlog
from difftori_pl.models.td_mpc2 import discount_of, percentile
from difftori_pl.models.td_mpc2_networks import QEnsemble, SimNorm, normed_mlp
from difftori_pl.trajopt import RolloutReturn
from tests.replayed import replayed_batch

B, H, OBS, A, Z = 6, 3, 4, 2, 8


def make(**options: Any) -> TDMPC2:
    torch.manual_seed(0)
    encoder = StateEncoder({"state": OBS}, None, normalize=False)
    sizes = {"latent_dim": Z, "encoder_dims": [6], "hidden_dim": 8, "simplex_dim": 4, "n_bins": 9, "max_symlog": 2.0}
    model = TDMPC2(encoder, A, **(sizes | {"dropout": 0.0, "n_values": 2} | options)).double()
    # Small weights and heads that start at zero would make comparisons pass by accident.
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def make_batch() -> dict[str, Any]:
    return replayed_batch(B, H, OBS, A)


def soft_cross_entropy(logits: Tensor, number: Tensor) -> Tensor:
    """Follow the official code: floor, remainder, and scatter into two bins; 9 bins from -2 to 2."""
    position = (symlog(number).clamp(-2.0, 2.0) + 2.0) / 0.5
    low = position.floor().long().clamp(max=7)
    upper = position - low
    target = torch.zeros_like(logits).scatter(-1, low[:, None], 1 - upper[:, None])
    target = target.scatter(-1, low[:, None] + 1, upper[:, None])
    return -(target * logits.log_softmax(-1)).sum(-1)


def decode(logits: Tensor) -> Tensor:
    return symexp((logits.softmax(-1) * torch.linspace(-2, 2, 9, dtype=logits.dtype)).sum(-1))


@pytest.mark.parametrize("episodic", [False, True])
def test_model_loss_against_a_step_by_step_reference(episodic: bool) -> None:
    model, batch = make(episodic=episodic, termination_weight=0.7), make_batch()
    target = QEnsemble(Z + A, 8, 9, 2, 0.0).double()
    for parameter in target.parameters():
        nn.init.normal_(parameter, std=0.5)
    torch.manual_seed(5)
    found = model.loss(target, batch, model.settings)
    torch.manual_seed(5)
    noise = torch.randn(B * H, A, dtype=torch.float64).view(B, H, A)
    sums = {name: torch.zeros(B, dtype=torch.float64) for name in ("consistency", "reward", "value", "termination")}
    priorities = torch.zeros(B, dtype=torch.float64)
    states = batch["obs"]["state"]
    latent = model.encode({"state": states[:, :1]})[:, 0]
    for t in range(H):
        action, reward, terminated = (batch[key][:, t] for key in ("actions", "rewards", "terminated"))
        encoded = model.encode({"state": states[:, t + 1 : t + 2]})[:, 0].detach()
        mean, spread = model.pi(encoded).chunk(2, -1)
        std = (-10 + 6 * (torch.tanh(spread) + 1)).exp()
        next_action = torch.tanh(mean + std * noise[:, t]).detach()
        torch.testing.assert_close(found.next_actions[:, t], next_action)
        q = decode(target(torch.cat([encoded, next_action], 1))).amin(0)
        y = (reward + 0.99 * q * ~terminated).detach()
        both = torch.cat([latent, action], 1)
        q1, q2 = model.value(both)
        sums["reward"] = sums["reward"] + 0.5**t * soft_cross_entropy(model.reward_head(both), reward)
        errors = (soft_cross_entropy(q1, y) + soft_cross_entropy(q2, y)) / 2
        sums["value"] = sums["value"] + 0.5**t * errors
        priorities = priorities + 0.5**t * ((decode(q1) - y).abs() + (decode(q2) - y).abs()) / 2
        latent = model.next(latent, action)
        torch.testing.assert_close(found.latents[:, t + 1], latent)
        sums["consistency"] = sums["consistency"] + 0.5**t * ((latent - encoded) ** 2).mean(1)
        if model.termination_head is not None:
            p = torch.sigmoid(model.termination_head(latent)[:, 0])
            sums["termination"] = sums["termination"] - torch.where(terminated, p.log(), (1 - p).log())
    total = 20 * sums["consistency"] + 0.1 * sums["reward"] + 0.1 * sums["value"] + 0.7 * sums["termination"]
    torch.testing.assert_close(found.value, (batch["weights"] * total).mean() / H, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(found.priorities, priorities.detach(), rtol=1e-6, atol=1e-8)
    for name, value in sums.items():
        if name != "termination" or episodic:
            assert value.abs().min() > 0
            torch.testing.assert_close(found.logged[f"{name}_loss"], value.detach().mean(), rtol=1e-6, atol=1e-8)
    assert ("termination_loss" in found.logged) == episodic


def test_loss_settings_replace_those_of_the_model() -> None:
    model, batch = make(), make_batch()
    assert model.settings.override(discount=None, reward_weight=0.0).reward_weight == 0.0
    none = model.settings.override(reward_weight=0.0, value_weight=0.0, consistency_weight=0.0)
    assert model.loss(model.value, batch, none).value == 0.0
    reward = model.settings.override(reward_weight=1.0, value_weight=0.0, consistency_weight=0.0, decay=1.0)
    both = model.loss(model.value, batch, reward)
    inputs = torch.cat([both.latents[:, :-1], batch["actions"]], -1).flatten(0, 1)
    expected = soft_cross_entropy(model.reward_head(inputs), batch["rewards"].flatten()).view(B, H).mean(1)
    torch.testing.assert_close(both.value, (expected * batch["weights"]).mean())


def test_targets_are_the_minimum_of_two_random_networks() -> None:
    """Networks 0, ..., 4 predict the constants -2, ..., 2 at all inputs."""
    model, batch = make(n_values=5, n_bins=5, max_symlog=2.0, episode_steps=100), make_batch()
    batch |= {"terminated": torch.zeros(B, H, dtype=torch.bool), "rewards": torch.zeros(B, H, dtype=torch.float64)}
    target = QEnsemble(Z + A, 8, 5, 5, 0.0).double()
    with torch.no_grad():
        target.biases[-1][:, 0] = 50.0 * torch.eye(5)
    constants = [round(float(symexp(torch.tensor(c))), 4) for c in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    seen = []
    for seed in range(300):
        torch.manual_seed(seed)
        value = float(model.loss(target, batch, model.settings).logged["value"])
        seen.append(round(value / 0.95, 4))
    counts = [seen.count(constant) for constant in constants]
    assert sum(counts) == 300
    # The minimum of two of five numbers is the k-th with probability (5 - k) / 10.
    for count, probability in zip(counts, (0.4, 0.3, 0.2, 0.1, 0.0), strict=True):
        assert abs(count / 300 - probability) < 0.1


def test_policy_loss_against_a_step_by_step_reference() -> None:
    model = make(entropy_weight=0.3, scale_rate=0.25)
    model.scale.fill_(1.5)
    latents = torch.rand(40, H + 1, Z, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.manual_seed(7)
    found = model.policy_loss(latents, model.settings)
    torch.manual_seed(7)
    noise = torch.randn(40 * (H + 1), A, dtype=torch.float64).view(40, H + 1, A)
    terms, scale = [], torch.zeros(())
    for t in range(H + 1):
        mean, spread = model.pi(latents[:, t]).chunk(2, -1)
        std = (-10 + 6 * (torch.tanh(spread) + 1)).exp()
        before = mean + std * noise[:, t]
        q = decode(model.value(torch.cat([latents[:, t], torch.tanh(before)], 1))).mean(0)
        if t == 0:
            low, high = np.percentile(q.detach().numpy(), [5, 95])
            scale = torch.tensor(1.5 + 0.25 * (max(high - low, 1.0) - 1.5))
        entropy = -A * torch.distributions.Normal(mean, std).log_prob(before).sum(1)
        terms.append(0.5**t * (0.3 * entropy + q / scale).mean())
    torch.testing.assert_close(found, -torch.stack(terms).mean(), rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(model.scale, scale.double(), rtol=1e-6, atol=1e-8)


def test_the_policy_loss_uses_the_mean_of_two_random_networks() -> None:
    model = make(n_values=5, n_bins=5, max_symlog=2.0, entropy_weight=0.0)
    for weight in model.value.weights:
        nn.init.zeros_(weight)
    with torch.no_grad():
        model.value.biases[-1][:, 0] = 50.0 * torch.eye(5)
    constants = [float(symexp(torch.tensor(c, dtype=torch.float64))) for c in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    pairs = {round((a + b) / 2, 4) for i, a in enumerate(constants) for b in constants[:i]}
    latents = torch.rand(3, 1, Z, dtype=torch.float64)
    found = {round(-float(model.policy_loss(latents, model.settings).detach()), 4) for _ in range(200)}
    assert found == pairs


def test_the_running_scale_is_at_least_one() -> None:
    model = make(scale_rate=0.1)
    model.scale.fill_(3.0)
    model._update_scale(torch.linspace(0.0, 0.1, 21, dtype=torch.float64))
    torch.testing.assert_close(model.scale, torch.tensor(2.8, dtype=torch.float64))
    model._update_scale(torch.linspace(0.0, 10.0, 21, dtype=torch.float64))  # from 0.5 to 9.5
    torch.testing.assert_close(model.scale, torch.tensor(2.8 + 0.1 * (9.0 - 2.8), dtype=torch.float64))
    assert "scale" in model.state_dict()


@pytest.mark.parametrize("n", [1, 2, 20, 37])
def test_percentiles_against_numpy(n: int) -> None:
    x = torch.randn(n, dtype=torch.float64, generator=torch.Generator().manual_seed(n)).sort().values
    for fraction in (0.05, 0.95):
        assert float(percentile(x, fraction)) == pytest.approx(np.percentile(x.numpy(), 100 * fraction))


def test_losses_reach_their_own_parameters_only() -> None:
    model, batch = make(episodic=True), make_batch()
    loss = model.loss(model.value, batch, model.settings)
    pi = {name for name, _ in model.named_parameters() if name.startswith("pi.")}
    named = dict(model.named_parameters())
    gradients = torch.autograd.grad(loss.value, list(named.values()), allow_unused=True)
    reached = {name for name, gradient in zip(named, gradients, strict=True) if gradient is not None and gradient.any()}
    assert reached == named.keys() - pi
    policy_loss = model.policy_loss(loss.latents.detach(), model.settings)
    assert all(gradient.any() for gradient in torch.autograd.grad(policy_loss, list(model.pi.parameters())))


def test_simplices_sum_to_one() -> None:
    x = torch.randn(5, 7, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    latent = SimNorm(4)(x)
    assert latent.shape == x.shape
    assert (latent > 0).all()
    torch.testing.assert_close(latent.unflatten(-1, (3, 4)).sum(-1), torch.ones(5, 7, 3, dtype=torch.float64))
    first = x[0, 0, :4].detach().exp()
    torch.testing.assert_close(latent[0, 0, :4].detach(), first / first.sum())
    assert torch.autograd.gradcheck(SimNorm(4), x[0, :2])


def test_encoded_and_predicted_latents_are_simplices() -> None:
    model = make()
    latent = model.encode({"state": torch.randn(3, 2, OBS, dtype=torch.float64)})
    after = model.next(latent[:, 0], torch.rand(3, A, dtype=torch.float64))
    for part in (latent, after):
        sums = part.unflatten(-1, (2, 4)).sum(-1)
        torch.testing.assert_close(sums, torch.ones_like(sums))


def test_stacked_networks_equal_single_ones() -> None:
    torch.manual_seed(0)
    q, x = QEnsemble(5, 16, 3, 4, 0.5), torch.randn(7, 5)
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.5)
    for k in range(4):
        y = x
        for layer in range(2):
            y = F.linear(y, q.weights[layer][k].T, q.biases[layer][k, 0])
            y = F.mish(F.layer_norm(y, (16,), q.norm_weights[layer][k, 0], q.norm_biases[layer][k, 0]))
        expected = F.linear(y, q.weights[2][k].T, q.biases[2][k, 0])
        torch.testing.assert_close(q(x)[k], expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(q(x, torch.tensor([3, 1])), q(x)[[3, 1]], rtol=1e-4, atol=1e-5)


def test_dropout_is_only_in_losses() -> None:
    torch.manual_seed(0)
    model = make(dropout=0.5).train()
    inputs = torch.rand(4, Z + A, dtype=torch.float64)
    assert torch.equal(model.value(inputs), model.value(inputs))
    assert not torch.equal(model.value(inputs, dropout=True), model.value(inputs, dropout=True))
    latent, action = inputs.split([Z, A], -1)
    assert torch.equal(model.values(latent, action), model.values(latent, action))


def test_the_networks_have_the_published_sizes() -> None:
    model = TDMPC2(StateEncoder({"state": 17}, None, normalize=False), 6)

    def sizes(part: nn.Module) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in part.modules() if isinstance(layer, nn.Linear)]

    def kinds(part: nn.Sequential) -> list[str]:
        return [type(layer).__name__ for layer in part]

    assert sizes(model.project) == [(17, 256), (256, 512)]
    assert sizes(model.dynamics) == [(518, 512), (512, 512), (512, 512)]
    assert sizes(model.reward_head) == [(518, 512), (512, 512), (512, 101)]
    assert sizes(model.pi) == [(512, 512), (512, 512), (512, 12)]
    assert [tuple(weight.shape) for weight in model.value.weights] == [(5, 518, 512), (5, 512, 512), (5, 512, 101)]
    hidden = ["Linear", "LayerNorm", "Mish"]
    assert kinds(model.dynamics) == [*hidden, *hidden, "Linear", "LayerNorm", "SimNorm"]
    assert kinds(model.reward_head) == [*hidden, *hidden, "Linear"]
    assert model.settings.discount == pytest.approx(0.99)
    weights = model.settings
    assert (weights.consistency_weight, weights.reward_weight, weights.value_weight, weights.decay) == (
        20,
        0.1,
        0.1,
        0.5,
    )


def test_reward_and_value_start_at_zero_and_weights_small() -> None:
    torch.manual_seed(0)
    model = TDMPC2(StateEncoder({"state": 4}, None, normalize=False), 2, 32, [16], 64)
    latent, action = torch.rand(3, 32), torch.rand(3, 2)
    assert model.reward(latent, action).abs().max() < 1e-5
    assert model.values(latent, action).abs().max() < 1e-5
    assert model.dynamics[3].weight.detach().std() == pytest.approx(0.02, rel=0.1)
    assert model.value.weights[1].detach().std() == pytest.approx(0.02, rel=0.1)


def test_the_policy_is_a_squashed_gaussian() -> None:
    model = make()
    latent = torch.rand(1, Z, dtype=torch.float64)
    mean, log_std = model.gaussian(latent)
    assert (log_std > -10).all()
    assert (log_std < 2).all()
    torch.manual_seed(0)
    actions = model.sample(latent.expand(40_000, Z))
    assert actions.abs().max() <= 1
    before = torch.atanh(actions.clamp(-1 + 1e-12, 1 - 1e-12))
    torch.testing.assert_close(before.mean(0), mean[0], rtol=0.05, atol=0.02)  # of 40,000 samples
    torch.testing.assert_close(before.std(0), log_std[0].exp(), rtol=0.05, atol=0.02)
    torch.testing.assert_close(model.act(latent), torch.tanh(mean))


@pytest.mark.parametrize(
    ("episode_steps", "discount"), [(500, 0.99), (250, 0.98), (1000, 0.995), (5000, 0.995), (100, 0.95), (2, 0.95)]
)
def test_the_discount_follows_the_length_of_an_episode(episode_steps: int, discount: float) -> None:
    assert discount_of(episode_steps) == pytest.approx(discount)
    assert make(episode_steps=episode_steps).settings.discount == pytest.approx(discount)


@pytest.mark.parametrize("episodic", [False, True])
def test_plan_values_are_differentiable(episodic: bool) -> None:
    model = make(episodic=episodic)
    objective = RolloutReturn(
        model.reward, model.next, model.plan_value, model.act, 0.9, model.continuation if episodic else None
    )
    generator = torch.Generator().manual_seed(0)
    latent = torch.rand(2, Z, dtype=torch.float64, generator=generator).requires_grad_()
    actions = torch.rand(2, 2, A, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(objective, (latent, actions))
    assert torch.autograd.gradgradcheck(objective, (latent, actions))
    (gradient,) = torch.autograd.grad(objective(latent, actions).sum(), actions)
    assert gradient.abs().min() > 1e-6


def test_plan_values_by_hand() -> None:
    model = make(episodic=True)
    latent, actions = torch.rand(3, Z, dtype=torch.float64), torch.rand(3, 2, A, dtype=torch.float64)
    objective = RolloutReturn(model.reward, model.next, model.plan_value, model.act, 0.9, model.continuation)
    z1 = model.next(latent, actions[:, 0])
    z2 = model.next(z1, actions[:, 1])
    end = decode(model.value(torch.cat([z2, model.act(z2)], 1))).mean(0)
    c1, c2 = (1 - torch.sigmoid(model.termination_head(z)[:, 0]) for z in (z1, z2))  # type: ignore[misc]
    expected = model.reward(latent, actions[:, 0]) + c1 * (0.9 * model.reward(z1, actions[:, 1]) + c2 * 0.81 * end)
    torch.testing.assert_close(objective(latent, actions), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"simplex_dim": 3}, "latent_dim must be a multiple of simplex_dim, got 8 and 3"),
        ({"n_values": 1}, "n_values must be at least 2, .* got 1"),
        ({"episode_steps": 0}, "episode_steps must be at least 1, got 0"),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**options)


def test_a_perceptron_without_hidden_layers_is_linear() -> None:
    assert math.prod(next(iter(normed_mlp(3, [], 2)[0].parameters())).shape) == 6
    assert len(normed_mlp(3, [], 2)) == 1
