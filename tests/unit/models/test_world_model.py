import torch
from torch import nn
from torch.nn import functional as F

from datamodules import ObservationSpec
from difftori_pl import TDMPC, ObservationCritic, PixelEncoder, RandomShift, StateEncoder
from difftori_pl.models.critics import TwinQ


def test_stacked_networks_equal_single_ones() -> None:
    torch.manual_seed(0)
    q = TwinQ(5, 2, 16)
    for parameter in q.parameters():
        nn.init.normal_(parameter, std=0.5)
    latent, action = torch.randn(7, 5), torch.randn(7, 2)
    for k in range(2):
        x = F.linear(torch.cat([latent, action], 1), q.weights[0][k].T, q.biases[0][k, 0])
        x = torch.tanh(F.layer_norm(x, (16,), q.norm_weight[k, 0], q.norm_bias[k, 0]))
        x = F.elu(F.linear(x, q.weights[1][k].T, q.biases[1][k, 0]))
        expected = F.linear(x, q.weights[2][k].T, q.biases[2][k, 0])[:, 0]
        torch.testing.assert_close(q(latent, action)[k], expected, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(q(latent.expand(2, -1, -1), action)[k], expected, rtol=1e-4, atol=1e-5)


def test_the_networks_have_the_published_sizes() -> None:
    model = TDMPC(StateEncoder({"state": 17}, 50, [256], normalize=False), 6)

    def sizes(part: nn.Module) -> list[tuple[int, int]]:
        return [(layer.in_features, layer.out_features) for layer in part.modules() if isinstance(layer, nn.Linear)]

    assert sizes(model.encoder) == [(17, 256), (256, 50)]
    assert sizes(model.dynamics) == [(56, 512), (512, 512), (512, 50)]
    assert sizes(model.reward_head) == [(56, 512), (512, 512), (512, 1)]
    assert sizes(model.pi) == [(50, 512), (512, 512), (512, 6)]
    assert [tuple(weight.shape) for weight in model.value.weights] == [(2, 56, 512), (2, 512, 512), (2, 512, 1)]


def test_reward_and_value_start_at_zero_and_weights_orthogonal() -> None:
    model = TDMPC(StateEncoder({"state": 4}, 8, [16], normalize=False), 2, 32)
    latent, action = torch.randn(3, 8), torch.randn(3, 2)
    assert not model.reward(latent, action).any()
    assert not model.values(latent, action).any()
    square = model.dynamics[2].weight
    torch.testing.assert_close(square @ square.T, torch.eye(32), rtol=1e-4, atol=1e-5)
    first, second = model.value.weights[1]
    torch.testing.assert_close(first @ first.T, torch.eye(32), rtol=1e-4, atol=1e-5)
    assert not torch.equal(first, second)


def test_the_policy_is_bounded_and_its_noise_is_clipped() -> None:
    torch.manual_seed(0)
    model = TDMPC(StateEncoder({"state": 4}, 8, [16], normalize=False), 2, 32)
    latent = torch.randn(500, 8)
    mean, noisy = model.act(latent), model.act(latent, std=5.0)
    assert (noisy - mean).abs().max() <= 0.3 + 1e-6
    assert noisy.abs().max() <= 1.0
    (gradient,) = torch.autograd.grad(noisy.sum(), [model.pi[-1].bias])
    assert gradient.abs().min() > 0


def test_each_critic_has_its_own_encoder() -> None:
    critic = ObservationCritic(StateEncoder({"state": 4}, 8, [16], normalize=False), 2, 16)
    nn.init.normal_(critic.value.weights[2])
    obs, action = {"state": torch.randn(3, 5, 4)}, torch.randn(3, 5, 2)
    value = critic(obs, action)
    assert value.shape == (2, 3, 5)
    (gradient,) = torch.autograd.grad(value[0].sum(), [critic.encoders[1].net[0].weight], allow_unused=True)
    assert not gradient.any()
    torch.testing.assert_close(critic({"state": obs["state"][1:2, 2:3]}, action[1:2, 2:3])[:, 0, 0], value[:, 1, 2])


def test_pixels_are_scaled_and_encoded_step_by_step() -> None:
    encoder = PixelEncoder(latent_dim=7)
    images = torch.randint(0, 255, (2, 3, 9, 84, 84), dtype=torch.uint8)
    latent, _ = encoder({"pixels": images}, {})
    assert latent.shape == (2, 3, 7)
    single, _ = encoder({"pixels": images[1:, 2:]}, {})
    torch.testing.assert_close(single[0, 0], latent[1, 2], rtol=1e-4, atol=1e-5)
    features = encoder.convolutions(images[0].float() / 255)
    torch.testing.assert_close(encoder.project(features), latent[0], rtol=1e-4, atol=1e-5)


def test_random_shift_is_a_crop_of_the_edge_padded_image() -> None:
    torch.manual_seed(0)
    images = torch.randint(0, 255, (4, 5, 2, 12, 12), dtype=torch.uint8)
    specs = {"pixels": ObservationSpec.image(2, 12, 12), "state": ObservationSpec.vector(2)}
    shifted = RandomShift(3)({"pixels": images, "state": torch.ones(4, 5, 2)}, specs)["pixels"]
    assert shifted.dtype == torch.uint8
    padded = F.pad(images.flatten(0, 1).float(), (3, 3, 3, 3), mode="replicate")
    places = set()
    for image, result in zip(padded, shifted.flatten(0, 1).float(), strict=True):
        found = [
            (row, column)
            for row in range(7)
            for column in range(7)
            if torch.equal(image[:, row : row + 12, column : column + 12], result)
        ]
        assert found
        places.add(found[0])
    assert len(places) > 10


def test_random_shift_moves_nothing_but_images() -> None:
    forces, images = torch.rand(4, 5, 3, 4, 4), torch.randint(0, 255, (4, 5, 2, 12, 12), dtype=torch.uint8)
    specs = {"forces": ObservationSpec.vector(3, 4, 4), "pixels": ObservationSpec.image(2, 12, 12)}
    shifted = RandomShift(3)({"forces": forces, "pixels": images, "unread": images}, specs)
    assert torch.equal(shifted["forces"], forces)
    assert torch.equal(shifted["unread"], images)
    assert not torch.equal(shifted["pixels"], images)
