"""Every encoder fulfils the contract of `Encoder`."""

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.models.encoders import Encoder
from difftori_pl.models.encoders.base import observation_specs
from tests import cases
from tests.cases import observations


@pytest.fixture(params=cases.ENCODERS)
def encoder(request: pytest.FixtureRequest) -> Encoder:
    torch.manual_seed(0)
    return cases.ENCODERS[request.param]().eval()


def observations_for(encoder: Encoder, batch: int, steps: int) -> dict[str, torch.Tensor]:
    """Return observations of the sizes that the encoder declares."""
    obs = observations(batch, steps)
    cloud = encoder.obs_specs.get("point_cloud")
    return obs if cloud is None else {**obs, "point_cloud": obs["point_cloud"][..., : cloud.shape[1]]}


def test_the_latent_has_the_declared_size(encoder: Encoder) -> None:
    latent, _ = encoder(observations_for(encoder, 2, 3), encoder.initial_state(2))
    assert latent.shape == (2, 3, encoder.latent_dim)


def test_only_the_declared_observations_are_read(encoder: Encoder) -> None:
    obs = observations_for(encoder, 2, 3)
    specs = observation_specs(encoder)
    read = {key: obs[key] for key in specs}
    for key, spec in specs.items():
        assert (tuple(read[key].shape[2:]), str(read[key].dtype)) == (spec.shape, f"torch.{spec.dtype}")
    state = encoder.initial_state(2)
    assert torch.equal(encoder(read, state)[0], encoder(obs, state)[0])


def test_the_latent_of_a_step_does_not_depend_on_later_steps(encoder: Encoder) -> None:
    whole = observations_for(encoder, 2, 6)
    start = {key: value[:, :3] for key, value in whole.items()}
    state = encoder.initial_state(2)
    assert_close(encoder(whole, state)[0][:, :3], encoder(start, state)[0], rtol=1e-4, atol=1e-5)


def test_step_by_step_equals_the_window(encoder: Encoder) -> None:
    obs, state = observations_for(encoder, 2, 6), encoder.initial_state(2)
    window, _ = encoder(obs, state)
    for step in range(6):
        latent, state = encoder({key: value[:, step : step + 1] for key, value in obs.items()}, state)
        assert_close(latent[:, 0], window[:, step], rtol=1e-4, atol=1e-5)


def test_an_element_alone_equals_itself_in_a_batch(encoder: Encoder) -> None:
    obs = observations_for(encoder, 3, 4)
    latent, state = encoder(obs, encoder.initial_state(3))
    alone, memory = encoder({key: value[1:2] for key, value in obs.items()}, encoder.initial_state(1))
    assert_close(alone, latent[1:2], rtol=1e-4, atol=1e-5)
    for name, value in memory.items():
        assert_close(value, state[name][1:2], rtol=1e-4, atol=1e-5)


def test_nan_in_one_element_does_not_affect_the_others(encoder: Encoder) -> None:
    obs = observations_for(encoder, 3, 4)
    spoilt = {key: value.clone() for key, value in obs.items()}
    for value in spoilt.values():
        if value.is_floating_point():
            value[1] = torch.nan
    latent, state = encoder(obs, encoder.initial_state(3))
    other, memory = encoder(spoilt, encoder.initial_state(3))
    assert torch.equal(other[[0, 2]], latent[[0, 2]])
    for name, value in memory.items():
        assert torch.equal(value[[0, 2]], state[name][[0, 2]])


def test_every_parameter_gets_a_gradient(encoder: Encoder) -> None:
    latent, _ = encoder.train()(observations_for(encoder, 2, 3), encoder.initial_state(2))
    if latent.requires_grad:  # the concatenation has no parameters
        latent.square().sum().backward()
    without = [name for name, parameter in encoder.named_parameters() if parameter.grad is None]
    assert not without
