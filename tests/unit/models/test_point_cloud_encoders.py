import math
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.models.encoders import CloudAugmentation, DP3Encoder, PointCloudEncoder, PointNetEncoder
from difftori_pl.models.encoders.max_pool import max_pool
from difftori_pl.models.policy import Observation

ENCODERS = {
    "pointnet": lambda: PointNetEncoder(n_points=40, obs_dims={"robot_state": 5}),
    "pointnet_of_clouds_only": lambda: PointNetEncoder(n_points=40, n_channels=3, latent_dim=7),
    "dp3": lambda: DP3Encoder(n_points=40, obs_dims={"robot_state": 5}, latent_dim=7),
    "dp3_of_clouds_only": lambda: DP3Encoder(n_points=40, n_channels=3),
}


def observation(n_channels: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "point_cloud": torch.rand(2, 3, 40, n_channels, generator=generator),
        "robot_state": torch.randn(2, 3, 5, generator=generator),
    }


@pytest.fixture(params=ENCODERS)
def encoder(request: pytest.FixtureRequest) -> PointCloudEncoder:
    torch.manual_seed(0)
    made: PointCloudEncoder = ENCODERS[request.param]()
    return made.eval()


def encode(encoder: PointCloudEncoder, obs: Observation) -> torch.Tensor:
    return encoder(obs, encoder.initial_state(2))[0]


def test_the_order_of_the_points_does_not_matter(encoder: PointCloudEncoder) -> None:
    obs = observation(encoder.obs_specs["point_cloud"].shape[1])
    order = torch.randperm(40, generator=torch.Generator().manual_seed(2))
    latent = encode(encoder, obs)
    assert latent.shape == (2, 3, encoder.latent_dim)
    assert_close(encode(encoder, {**obs, "point_cloud": obs["point_cloud"][:, :, order]}), latent)


def test_repeated_points_do_not_matter(encoder: PointCloudEncoder) -> None:
    obs = observation(encoder.obs_specs["point_cloud"].shape[1])
    obs["point_cloud"][:, :, 20:] = obs["point_cloud"][:, :, :20]
    assert_close(encode(encoder, {**obs, "point_cloud": obs["point_cloud"][:, :, :20]}), encode(encoder, obs))


def test_every_part_of_the_observation_matters(encoder: PointCloudEncoder) -> None:
    obs = observation(encoder.obs_specs["point_cloud"].shape[1])
    latent = encode(encoder, obs)
    for key in encoder.obs_specs:
        changed = {**obs, key: obs[key] + 0.3}
        assert ((encode(encoder, changed) - latent).abs().amax(-1) > 1e-3).all(), key


def test_masked_components_of_the_state_do_not_affect_the_latent() -> None:
    torch.manual_seed(0)
    encoder = DP3Encoder(n_points=40, obs_dims={"robot_state": 5}, masked_components={"robot_state": [1, 4]}).eval()
    obs = observation()
    hidden = obs["robot_state"] + torch.tensor([0, 1, 0, 0, 1])
    shown = obs["robot_state"] + torch.tensor([0, 0, 1, 0, 0])
    assert torch.equal(encode(encoder, {**obs, "robot_state": hidden}), encode(encoder, obs))
    assert not torch.equal(encode(encoder, {**obs, "robot_state": shown}), encode(encoder, obs))


def test_the_split_first_layer_equals_one_layer_on_the_concatenation() -> None:
    torch.manual_seed(0)
    encoder = PointNetEncoder(n_points=40, obs_dims={"robot_state": 5}).eval()
    obs = observation()
    both = torch.cat([obs["point_cloud"], obs["robot_state"].unsqueeze(2).expand(-1, -1, 40, -1)], dim=-1)
    joined = torch.nn.Linear(11, 64)
    with torch.no_grad():
        joined.weight.copy_(torch.cat([encoder.first.weight, encoder.first_of_state.weight], dim=1))
        joined.bias.copy_(encoder.first.bias)
        expected = torch.cat([encoder.rest(joined(both)).relu().amax(2), obs["robot_state"]], dim=-1)
    assert_close(encode(encoder, obs), expected)


def test_training_has_the_values_and_gradients_of_a_graph_over_all_points(encoder: PointCloudEncoder) -> None:
    encoder.double()
    obs = {key: value.double() for key, value in observation(encoder.obs_specs["point_cloud"].shape[1]).items()}
    obs["point_cloud"][:, :, 30:] = obs["point_cloud"][:, :, :10]
    found = []
    for training in (False, True):
        encoder.train(training).zero_grad()
        inputs = {key: value.clone().requires_grad_() for key, value in obs.items()}
        latent = encode(encoder, inputs)
        latent.backward(torch.linspace(-1, 1, latent.numel(), dtype=torch.float64).view_as(latent))
        cloud = inputs.pop("point_cloud").grad
        cloud[:, :, :10] += cloud[:, :, 30:]  # the gradient may be split between a point and its copy
        others = [value.grad for value in inputs.values() if value.grad is not None]
        found.append([latent, cloud[:, :, :30], *others, *(weight.grad for weight in encoder.parameters())])
    assert_close(found[1], found[0])


def test_only_critical_points_have_a_graph_in_training() -> None:
    points, state = torch.randn(3, 500, 2), torch.rand(3, 4)
    with_graph = []

    def features(points: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        if torch.is_grad_enabled():
            with_graph.append(points.shape[:-1].numel())
        return torch.cat([points, -points], dim=-1) * state

    pooled = max_pool(features, points, state, training=True)
    assert with_graph == [12]  # four features of three clouds
    assert_close(pooled, max_pool(features, points, state, training=False))


@pytest.mark.parametrize("made", ENCODERS.values())
def test_training_in_bfloat16(made: Callable[[], PointCloudEncoder]) -> None:
    encoder = made()
    with torch.autocast("cpu", torch.bfloat16):
        encode(encoder, observation(encoder.obs_specs["point_cloud"].shape[1])).sum().backward()
    assert all(weight.grad.isfinite().all() for weight in encoder.parameters())


def test_training_may_use_a_random_subset_of_the_points() -> None:
    torch.manual_seed(0)
    encoder = DP3Encoder(n_points=40, n_training_points=10)
    obs = observation()
    latents = [encode(encoder.train(), obs) for _ in range(2)]
    assert not torch.equal(*latents)
    assert_close(encode(encoder.eval(), obs), encode(encoder, obs))


def test_augmentation_applies_in_training_only_and_is_rigid_without_jitter() -> None:
    torch.manual_seed(0)
    points = torch.randn(64, 2, 30, 3)
    still = CloudAugmentation(jitter=1.0, translation=1.0, rotation=1.0).eval()
    assert torch.equal(still(points), points)
    moved = CloudAugmentation(translation=0.1, rotation=math.pi / 6)(points)
    assert_close(torch.cdist(moved, moved), torch.cdist(points, points), rtol=1e-4, atol=5e-3)
    shift = moved.mean(2) - points.mean(2)
    assert_close(moved[..., 2] - points[..., 2], shift[:, :1, 2:].expand(-1, 2, 30))
    flat, turned = (
        points[..., :2] - points[..., :2].mean(2, keepdim=True),
        moved[..., :2] - moved[..., :2].mean(2, True),
    )
    cross = flat[..., 0] * turned[..., 1] - flat[..., 1] * turned[..., 0]
    angle = torch.atan2(cross.sum(2), (flat * turned).sum((2, 3)))
    assert_close(angle[:, 0], angle[:, 1])
    assert 0.9 * math.pi / 6 < angle.abs().max() <= math.pi / 6 + 1e-4
    shaken = CloudAugmentation(jitter=0.02)(points) - points
    assert shaken.std().item() == pytest.approx(0.02, rel=0.05)
