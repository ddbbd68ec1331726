import pytest
import torch
from torch.testing import assert_close

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.augmentation import RandomShift
from difftori_pl.models.encoders import (
    HistoryEncoder,
    PixelEncoder,
    RecurrentEncoder,
    SmallConvEncoder,
    StateEncoder,
    TaskEncoder,
)
from difftori_pl.models.encoders.base import frames
from difftori_pl.models.encoders.resnet18 import SpatialSoftmax
from tests import cases
from tests.cases import observations

CAMERAS = cases.CAMERAS


def recurrent() -> RecurrentEncoder:
    encoder = cases.ENCODERS["recurrent"]()
    assert isinstance(encoder, RecurrentEncoder)
    return encoder


def test_the_memory_is_reset_after_restart_after_steps() -> None:
    torch.manual_seed(0)
    encoder = recurrent()
    obs = observations(1, 6)
    latent, _ = encoder(obs, encoder.initial_state(1))
    fresh, _ = encoder({key: value[:, 4:] for key, value in obs.items()}, encoder.initial_state(1))
    assert_close(latent[:, 4:], fresh)


def test_batch_elements_of_different_age_are_reset_independently() -> None:
    torch.manual_seed(0)
    encoder = recurrent()
    obs = observations(1, 1)
    young, old = encoder.initial_state(1), encoder.initial_state(1)
    for _ in range(4):
        _, old = encoder(obs, old)
    for _ in range(2):
        _, young = encoder(obs, young)
    both = {name: torch.cat([young[name], old[name]]) for name in young}
    latent, _ = encoder({key: value.expand(2, *value.shape[1:]) for key, value in obs.items()}, both)
    assert_close(latent[:1], encoder(obs, young)[0])
    assert_close(latent[1:], encoder(obs, encoder.initial_state(1))[0])


def test_crops_are_central_when_acting_and_random_in_training() -> None:
    torch.manual_seed(0)
    encoder = SmallConvEncoder(CAMERAS)
    images = torch.arange(84 * 84).view(1, 1, 1, 84, 84).expand(64, 2, 3, 84, 84)
    assert torch.equal(encoder.eval()._crop(images), images[..., 4:80, 4:80])
    cropped = encoder.train()._crop(images)
    corners = cropped[:, 0, 0, 0, 0]
    tops, lefts = corners // 84, corners % 84
    assert int(tops.min()) == 0
    assert int(tops.max()) == 8
    for window, top, left in zip(cropped, tops, lefts, strict=True):
        assert torch.equal(window, images[0, ..., top : top + 76, left : left + 76])


@pytest.mark.parametrize("crop_size", [85, 0, -1])
def test_crops_are_no_larger_than_the_images(crop_size: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"crop_size {crop_size} and image_size 84: set crop_size to 84"):
        SmallConvEncoder(CAMERAS, image_size=84, crop_size=crop_size)


def test_images_need_not_be_cropped() -> None:
    encoder = SmallConvEncoder(CAMERAS, image_size=84, crop_size=84)
    images = observations(2, 3)["left_image"]
    assert torch.equal(encoder.train()._crop(images), images)


def test_spatial_softmax_finds_a_bright_spot() -> None:
    layer = SpatialSoftmax(in_channels=1, n_points=1)
    torch.nn.init.constant_(layer.attention.weight, 1.0)
    features = torch.zeros(1, 1, 5, 9)
    features[0, 0, 4, 2] = 1000.0
    assert_close(layer(features), torch.tensor([[-0.5, 1.0]]))


def test_a_history_holds_the_last_steps_and_repeats_the_first() -> None:
    encoder = HistoryEncoder(StateEncoder({"position": 3}, latent_dim=None, normalize=False), n_obs_steps=2)
    positions = observations(2, 4)["position"]
    latent, _ = encoder({"position": positions}, encoder.initial_state(2))
    before = torch.cat([positions[:, :1], positions[:, :-1]], dim=1)
    assert torch.equal(latent, torch.cat([before, positions], dim=-1))


def test_encoders_with_memory_refuse_other_encoders_with_memory() -> None:
    with pytest.raises(ConfigurationError, match="without memory, got RecurrentEncoder"):
        HistoryEncoder(recurrent())
    for remembers in (recurrent(), HistoryEncoder(StateEncoder({"position": 3}))):
        with pytest.raises(ConfigurationError, match=f"without memory, got {type(remembers).__name__}"):
            RecurrentEncoder(remembers)
    with pytest.raises(ConfigurationError, match="must be at least 1, got 0"):
        HistoryEncoder(StateEncoder({"position": 3}), n_obs_steps=0)


def test_masked_components_do_not_affect_the_latent() -> None:
    torch.manual_seed(0)
    encoder = StateEncoder({"position": 3, "speed": 2}, latent_dim=6, masked_components={"position": [0, 2]})
    encoder.normalizer.get_buffer("position_mean").fill_(0.7)
    obs = observations(2, 4)
    latent, _ = encoder(obs, {})
    for component, is_masked in ((0, True), (1, False), (2, True)):
        changed = obs["position"].clone()
        changed[..., component] += 1.0
        other, _ = encoder({**obs, "position": changed}, {})
        assert torch.equal(other, latent) == is_masked
    lost, _ = encoder({**obs, "position": obs["position"] + torch.tensor([torch.nan, 0.0, torch.inf])}, {})
    assert torch.equal(lost, latent)
    mean, _ = encoder({**obs, "position": obs["position"] * torch.tensor([0, 1, 0]) + torch.tensor([0.7, 0, 0.7])}, {})
    assert_close(mean, latent)
    assert encoder.state_dict().keys() == StateEncoder({"position": 3, "speed": 2}, latent_dim=6).state_dict().keys()


@pytest.mark.parametrize("masked", [{"position": [3]}, {"position": [-1]}, {"force": [0]}, {"force": []}])
def test_masked_components_must_exist(masked: dict[str, list[int]]) -> None:
    with pytest.raises(ConfigurationError, match=r"masked_components .* components of \{'position': 3\}, got"):
        StateEncoder({"position": 3}, masked_components=masked)


def test_masked_components_require_normalisation() -> None:
    with pytest.raises(ConfigurationError, match="expected normalize: true"):
        StateEncoder({"position": 3}, normalize=False, masked_components={"position": [0]})


def test_the_embedding_of_a_task_is_the_row_of_its_index() -> None:
    torch.manual_seed(0)
    encoder = TaskEncoder(StateEncoder({"position": 3}, latent_dim=None, normalize=False), n_tasks=2, embedding_dim=5)
    obs = observations(4, 3)
    latent, _ = encoder(obs, {})
    assert torch.equal(latent[..., :3], obs["position"])
    assert_close(latent[..., 3:], encoder.embedding.weight[obs["task"].argmax(-1)])
    latent.sum().backward()
    counts = obs["task"].sum((0, 1))
    assert_close(encoder.embedding.weight.grad, counts[:, None].expand(2, 5))


def test_sizes_and_keys_of_a_task_encoder() -> None:
    position = StateEncoder({"position": 3})
    for sizes in ({"n_tasks": 0}, {"n_tasks": 2, "embedding_dim": 0}):
        with pytest.raises(ConfigurationError, match="n_tasks and embedding_dim must be at least 1, got"):
            TaskEncoder(position, **sizes)
    with pytest.raises(ConfigurationError, match=r"got one that reads 'task' too: remove 'task' from its obs_dims"):
        TaskEncoder(HistoryEncoder(StateEncoder({"position": 3, "task": 2})), n_tasks=2)


@pytest.mark.parametrize("shifted", [True, False])
def test_pixels_are_encoded_like_contiguous_frames(shifted: bool) -> None:
    """Compare latents and gradients with convolutions of frames in the usual order of memory."""
    torch.manual_seed(0)
    encoder = PixelEncoder(n_channels=3, image_size=64, latent_dim=5, n_filters=4).double()
    obs = {"pixels": torch.randint(256, (3, 4, 3, 64, 64), dtype=torch.uint8)}
    if shifted:
        obs = RandomShift()(obs, encoder.obs_specs)
    later = obs["pixels"][:, 1:]
    contiguous = torch.stack([frame for window in later for frame in window]).contiguous().double() / 255.0
    expected = encoder.project(encoder.convolutions(contiguous)).view(3, 3, 5)
    found, _ = encoder({"pixels": later}, {})
    assert_close(found, expected, rtol=1e-10, atol=1e-12)
    gradients = [torch.autograd.grad(each.square().sum(), list(encoder.parameters())) for each in (found, expected)]
    assert_close(*gradients, rtol=1e-10, atol=1e-12)


def test_frames_have_their_channels_last_in_memory() -> None:
    images = torch.rand(2, 3, 4, 8, 9)
    for part in (images, images[:, 1:], images[:, :1]):
        assert torch.equal(frames(part), part.flatten(0, 1))
        assert frames(part).is_contiguous(memory_format=torch.channels_last)
