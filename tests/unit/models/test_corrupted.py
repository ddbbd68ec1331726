"""Noise and dropout of low-dimensional observations, in training only."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from datamodules.windowing.statistics import Statistics
from difftori_pl import DiffTORIIL
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies import BC
from difftori_pl.models.encoders import CorruptedEncoder, DP3Encoder, Encoder, HistoryEncoder, StateEncoder
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Unroll
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import LevenbergMarquardt
from tests.cases import observations

DIMS = {"position": 3, "speed": 2}


def spread(mean: list[float], std: list[float]) -> Statistics:
    values = torch.tensor(mean)
    return Statistics(values, torch.tensor(std), values, values)


STATISTICS = {"position": spread([5.0, -1.0, 0.0], [10.0, 1.0, 0.1]), "speed": spread([1.0, 2.0], [3.0, 0.5])}


def fitted(encoder: Encoder) -> Encoder:
    for part in encoder.modules():
        if isinstance(part, Normalizer):
            part.fit(STATISTICS)
    return encoder


def concatenation(**options: object) -> CorruptedEncoder:
    """Return an encoder whose latent is the standardised observation."""
    masked = {"position": [1]}
    encoder = CorruptedEncoder(StateEncoder(DIMS, None, masked_components=masked), **options)
    assert isinstance(fitted(encoder), CorruptedEncoder)
    return encoder


def latents(encoder: Encoder, n: int = 4000, steps: int = 2) -> tuple[Tensor, Tensor]:
    """Return the latents of random windows in training mode, and in evaluation mode."""
    torch.manual_seed(0)
    obs = observations(n, steps)
    state = encoder.initial_state(n)
    with torch.no_grad():
        return encoder.train()(obs, state)[0], encoder.eval()(obs, state)[0]


def test_noise_is_a_fraction_of_each_standard_deviation_and_masked_components_stay_masked() -> None:
    noisy, clean = latents(concatenation(noise=0.2))
    difference = noisy - clean
    assert (difference[..., 1] == 0).all()
    others = difference[..., [0, 2, 3, 4]]
    assert_close(others.std((0, 1)), torch.full((4,), 0.2), rtol=0.05, atol=0)
    assert others.mean().abs() < 0.01
    correlation = torch.corrcoef(torch.stack([others[:, 0, 0], others[:, 1, 0]]))[0, 1]
    assert correlation.abs() < 0.05


def test_dropped_keys_have_their_mean_in_the_whole_window_independently_of_other_keys() -> None:
    latent, clean = latents(concatenation(dropout=0.3))
    position, speed = (latent[..., :3] == 0).all((1, 2)), (latent[..., 3:] == 0).all((1, 2))
    for dropped in (position, speed):
        assert dropped.float().mean() == pytest.approx(0.3, abs=0.03)
    assert (position & speed).float().mean() == pytest.approx(0.09, abs=0.02)
    assert_close(latent[~position][..., :3], clean[~position][..., :3], rtol=1e-4, atol=1e-4)


def test_groups_of_components_are_dropped_independently() -> None:
    latent, clean = latents(concatenation(dropout=0.3, groups={"speed": [[1]], "position": [[0], [2]]}))
    assert_close(latent[..., 3], clean[..., 3], rtol=1e-4, atol=1e-4)
    first, last = (latent[..., 0] == 0).all(1), (latent[..., 2] == 0).all(1)
    assert (first & last).float().mean() == pytest.approx(0.09, abs=0.02)


def test_nothing_is_corrupted_in_evaluation_mode() -> None:
    torch.manual_seed(0)
    inner = fitted(StateEncoder(DIMS, 6))
    obs = observations(3, 4)
    wrapped = CorruptedEncoder(inner, noise=1.0, dropout=0.9).eval()
    assert torch.equal(wrapped(obs, {})[0], inner(obs, {})[0])


@pytest.mark.parametrize(
    "encoder",
    [
        lambda: HistoryEncoder(CorruptedEncoder(StateEncoder(DIMS), noise=0.3)),
        lambda: CorruptedEncoder(HistoryEncoder(StateEncoder(DIMS)), noise=0.3),
        lambda: CorruptedEncoder(DP3Encoder(n_points=40, n_channels=6, obs_dims=DIMS), noise=0.3),
    ],
    ids=["inside a history", "around a history", "point cloud"],
)
def test_other_encoders_are_corrupted(encoder: object) -> None:
    torch.manual_seed(0)
    noisy, clean = latents(fitted(encoder()), n=3)  # type: ignore[operator]
    assert not torch.allclose(noisy, clean)


def test_the_proposals_of_a_frozen_base_are_not_corrupted() -> None:
    torch.manual_seed(0)
    base = BC(concatenation(noise=0.5, dropout=0.5), action_dim=2, hidden_dims=(8,))
    layer = TrajOptLayer(LevenbergMarquardt(max_steps=2), Unroll(), Projection())
    module = DiffTORIIL(concatenation(noise=0.5, dropout=0.5), base, layer)
    obs, demonstrated = observations(50, 2), torch.zeros(50, 2, 1, 2)
    state = module.initial_state(50)
    latent, proposals, _ = module.train().observe(obs, state, demonstrated)
    other_latent, other, _ = module.train().observe(obs, state, demonstrated)
    assert torch.equal(proposals, other)
    assert not torch.equal(latent, other_latent)
    assert_close(proposals, module.eval().observe(obs, state)[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"noise": -0.1}, "noise must be 0 or above, got -0.1"),
        ({"noise": float("nan")}, "noise must be 0 or above, got nan"),
        ({"dropout": 1.0}, r"dropout must be at least 0 and below 1, got 1\.0"),
        ({"dropout": -0.1}, "dropout must be at least 0 and below 1, got -0.1"),
        ({"groups": {"sped": [[0]]}}, r"groups must hold .* got \{'sped': \[\[0\]\]\}"),
        ({"groups": {"speed": [[0, 2]]}}, r"groups must hold .* got \{'speed': \[\[0, 2\]\]\}"),
        ({"groups": {"speed": [[-1]]}}, r"groups must hold .* got \{'speed': \[\[-1\]\]\}"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        concatenation(**options)


def test_an_encoder_that_standardises_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"expected an encoder that standardises .* set normalize to true"):
        CorruptedEncoder(StateEncoder(DIMS, normalize=False), noise=0.1)
