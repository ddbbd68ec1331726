"""DrQ-v2: the losses against hand-computed examples, n-step targets against numpy, and one update."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difftori_pl import DrQEncoder, DrQV2, LinearSchedule, RandomShift, RecurrentEncoder, StateEncoder
from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import n_step_target
from difftori_pl.models.drq_v2 import Actor, TwinCritic
from difftori_pl.models.noisy_actions import noisy

B, N, OBS, A = 5, 3, 4, 2


def make(**options: Any) -> DrQV2:
    torch.manual_seed(0)
    encoder = StateEncoder({"state": OBS}, 6, [8], normalize=False)
    exploration = LinearSchedule(0.0, 0.0, 0)
    return DrQV2(**{"encoder": encoder, "action_dim": A, "exploration": exploration, "hidden_dim": 16, **options})


def make_batch(n_steps: int = N) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator)

    return {
        "obs": {"state": uniform(B, n_steps + 1, OBS)},
        "actions": 2 * uniform(B, n_steps, A) - 1,
        "rewards": uniform(B, n_steps),
        "terminated": torch.zeros(B, n_steps, dtype=torch.bool),
    }


class Linear(nn.Module):
    """A function with a known answer, in place of a network."""

    def __init__(self, *factors: float) -> None:
        super().__init__()
        self.factors = nn.Parameter(torch.tensor(factors))

    def forward(self, latent: Tensor, action: Tensor | None = None) -> Tensor:
        if action is None:  # the actor
            return self.factors[0] * latent[:, :1]
        return torch.stack([factor * (latent.sum(-1) + action.sum(-1)) for factor in self.factors])


class Identity(StateEncoder):
    """Latents that are the observations."""

    def __init__(self) -> None:
        super().__init__({"state": 1}, None, normalize=False)


def by_hand() -> DrQV2:
    """Build π(z) = z / 2, Q = (2, 3) (z + a) and target critics (1, 4) (z + a), with the observation as the latent."""
    module = make(encoder=Identity(), action_dim=1, n_steps=2, discount=0.5)
    module.actor, module.critic, module.target_critic = Linear(0.5), Linear(2.0, 3.0), Linear(1.0, 4.0)  # type: ignore[assignment]
    return module


def test_critic_loss_by_hand() -> None:
    module = by_hand()
    latent, later = torch.tensor([[1.0]]), {"state": torch.tensor([[[0.4]]])}
    batch = {
        "actions": torch.tensor([[[-0.5], [9.0]]]), "rewards": torch.tensor([[1.0, 2.0]]),
        "terminated": torch.zeros(1, 2, dtype=torch.bool),
    }  # fmt: skip
    loss, target = module.critic_loss(latent, later, batch)
    # The next action is 0.2, the target critics have 0.6 and 2.4, so that y = 1 + 0.5 * 2 + 0.25 * 0.6 = 2.15.
    torch.testing.assert_close(target, torch.tensor([2.15]))
    # Q1 = 2 (1 - 0.5) = 1 and Q2 = 3 (1 - 0.5) = 1.5.
    torch.testing.assert_close(loss, torch.tensor(1.15**2 + 0.65**2))
    batch["terminated"][0, 1] = True
    _, target = module.critic_loss(latent, later, batch)
    torch.testing.assert_close(target, torch.tensor([2.0]))


def test_actor_loss_by_hand() -> None:
    module = by_hand()
    latent = torch.tensor([[1.0], [-0.4]])
    loss = module.actor_loss(latent)
    # Actions 0.5 and -0.2: Q1 = 2 * 1.5 is the smaller value of the first, Q2 = 3 * -0.6 of the second.
    torch.testing.assert_close(loss, torch.tensor(-(3.0 - 1.8) / 2))
    (gradient,) = torch.autograd.grad(loss, [*module.actor.parameters()])
    # d Q1 / d w = 2 * 1 and d Q2 / d w = 3 * -0.4.
    torch.testing.assert_close(gradient, torch.tensor([-(2.0 - 1.2) / 2]))


def test_n_step_target_against_numpy() -> None:
    random = np.random.default_rng(0)
    rewards, value = random.random((6, 4)), random.random(6)
    ends = np.zeros((6, 4), dtype=bool)
    ends[1, 3] = ends[2, 1] = True
    expected = np.zeros(6)
    for row in range(6):
        alive = 1.0
        for step in range(4):
            expected[row] += alive * 0.9**step * rewards[row, step]
            alive *= not ends[row, step]
        expected[row] += alive * 0.9**4 * value[row]
    found = n_step_target(torch.from_numpy(rewards), torch.from_numpy(value), torch.from_numpy(ends), 0.9)
    np.testing.assert_allclose(found.numpy(), expected)


@pytest.mark.parametrize(("env_step", "std"), [(0, 1.0), (100_000, 0.55), (200_000, 0.1), (900_000, 0.1)])
def test_the_noise_schedule(env_step: int, std: float) -> None:
    module = make(exploration=LinearSchedule(1.0, 0.1, 200_000))
    module.env_step.fill_(env_step)
    assert module.std == pytest.approx(std)


def test_noise_is_clipped_and_actions_stay_in_the_box() -> None:
    torch.manual_seed(0)
    mean = torch.zeros(10_000, 1, requires_grad=True)
    action = noisy(mean, 1.0, 0.3)
    assert action.abs().max() <= 0.3
    assert (action.abs() > 0.299).float().mean() > 0.7  # two-sided: P(|x| > 0.3) = 0.76
    near = noisy(mean + 0.9, 1.0, math.inf)
    assert near.max() <= 1.0
    assert near.min() >= -1.0
    assert near.std() > 0.3
    (gradient,) = torch.autograd.grad(near.sum(), mean)
    assert (gradient == 1).all()


def test_exploration_is_noisy_and_acting_is_not() -> None:
    module = make(exploration=LinearSchedule(0.5, 0.5, 0))
    obs = {"state": torch.rand(3, 1, OBS)}
    mean = module.act(obs, {})[0]
    assert torch.equal(mean, module.act(obs, {})[0])
    torch.testing.assert_close(mean, module.actor(module.encode(obs)).detach())
    drawn = torch.stack([module.explore(obs, {})[0] for _ in range(2000)])
    assert drawn.abs().max() <= 1.0
    free = (drawn.abs() < 1.0).float().mean()
    assert 0.5 < free < 1.0
    assert (drawn - mean).std() > 0.3, "the noise of exploration must not be clipped to 0.3"


def test_an_update_moves_each_part_by_its_own_loss() -> None:
    module = make()
    optimizers = module.configure_optimizers()
    module._optimizers = lambda: optimizers  # type: ignore[assignment,return-value,method-assign]
    before = {name: value.clone() for name, value in module.named_parameters()}
    batch = make_batch()
    latent = module.encode({"state": batch["obs"]["state"][:, :1]}).detach()
    later = {"state": batch["obs"]["state"][:, -1:]}
    expected, _ = module.critic_loss(latent, later, batch)
    values = module.update(batch)
    torch.testing.assert_close(values["critic_loss"], expected.detach())
    # The critic of the actor's loss has already been updated; the latent has not.
    with torch.no_grad():
        for name, value in module.actor.named_parameters():
            after, start = value.clone(), before[f"actor.{name}"]
            assert (after - start).abs().max() <= 1.01e-4  # Adam's first step has at most the learning rate
            assert (after - start).abs().max() > 0
            value.copy_(start)
        torch.testing.assert_close(values["actor_loss"], module.actor_loss(latent))
    for name, value in module.target_critic.named_parameters():
        start, now = before[f"critic.{name}"], module.critic.get_parameter(name)
        torch.testing.assert_close(value, start + 0.01 * (now - start))
    assert any(not torch.equal(value, before[f"encoder.{name}"]) for name, value in module.encoder.named_parameters())


def test_the_actor_does_not_train_the_encoder() -> None:
    module = make()
    optimizers = module.configure_optimizers()
    held = [{id(parameter) for group in one.param_groups for parameter in group["params"]} for one in optimizers]
    assert held[0] == {id(parameter) for part in (module.encoder, module.critic) for parameter in part.parameters()}
    assert held[1] == {id(parameter) for parameter in module.actor.parameters()}
    assert not any(parameter.requires_grad for parameter in module.target_critic.parameters())


def test_both_ends_of_the_window_are_shifted_separately() -> None:
    module = make(encoder=DrQEncoder(n_channels=1, n_filters=2), augmentation=RandomShift())
    picture = torch.arange(84 * 84).remainder(251).to(torch.uint8).view(1, 1, 1, 84, 84)
    torch.manual_seed(0)
    now, later = module._ends({"pixels": picture.expand(8, N + 1, 1, 84, 84)})
    assert now["pixels"].shape == later["pixels"].shape == (8, 1, 1, 84, 84)
    assert not torch.equal(now["pixels"], later["pixels"])
    assert not torch.equal(now["pixels"][0], now["pixels"][1])


def test_an_update_encodes_the_two_ends_of_the_window_once() -> None:
    module = make(encoder=DrQEncoder(n_channels=1, n_filters=2), augmentation=RandomShift())
    optimizers = module.configure_optimizers()
    module._optimizers = lambda: optimizers  # type: ignore[assignment,return-value,method-assign]
    encoded: list[Tensor] = []
    module.encoder.register_forward_pre_hook(lambda _, arguments: encoded.append(arguments[0]["pixels"]))
    images = torch.randint(256, (B, N + 1, 1, 84, 84), dtype=torch.uint8)
    module.update(make_batch() | {"obs": {"pixels": images}})
    assert [images.shape[:2] for images in encoded] == [(B, 1), (B, 1)]
    assert not torch.equal(*encoded)


def test_longer_windows_than_the_target_are_cut() -> None:
    module, batch = make(n_steps=2), make_batch(5)
    now, later = module._ends(batch["obs"])
    torch.testing.assert_close(now["state"][:, 0], batch["obs"]["state"][:, 0])
    torch.testing.assert_close(later["state"][:, 0], batch["obs"]["state"][:, 2])
    batch["rewards"][:, 2:] = torch.nan
    assert torch.isfinite(module.critic_loss(module.encode(now), later, batch)[0])


def test_the_encoder_has_the_size_of_the_official_one() -> None:
    encoder = DrQEncoder()
    assert encoder.latent_dim == 32 * 35 * 35
    pixels = torch.full((2, 3, 9, 84, 84), 255, dtype=torch.uint8)
    with torch.no_grad():
        latent, _ = encoder({"pixels": pixels}, {})
        expected = encoder.convolutions(torch.full((1, 9, 84, 84), 0.5))
    assert latent.shape == (2, 3, 39_200)
    torch.testing.assert_close(latent[1, 2], expected[0])


def test_sizes_of_the_networks() -> None:
    actor, critic = Actor(39_200, 6), TwinCritic(39_200, 6)
    trunk = 39_200 * 50 + 50 + 2 * 50
    assert sum(p.numel() for p in actor.parameters()) == trunk + 51 * 1024 + 1025 * 1024 + 1025 * 6
    assert sum(p.numel() for p in critic.parameters()) == trunk + 2 * (57 * 1024 + 1025 * 1024 + 1025)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_steps": 0}, "n_steps must be above 0, got 0"),
        ({"discount": 1.1}, r"discount and target_rate must be at most 1, got 1\.1"),
        ({"target_rate": 0.0}, r"target_rate must be above 0, got 0\.0"),
        ({"noise_clip": -0.1}, r"noise_clip must be 0 or above, got -0\.1"),
        ({"exploration": LinearSchedule(1.0, -0.1, 10)}, r"exploration must be 0 or above, got -0\.1"),
        (
            {"encoder": RecurrentEncoder(StateEncoder({"state": OBS}, 6, [8], normalize=False), 7)},
            "DrQV2 expects an encoder without memory, got RecurrentEncoder",
        ),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        make(**options)
