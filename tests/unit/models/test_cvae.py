import pytest
import torch
from torch.testing import assert_close

from datamodules.windowing.statistics import Statistics
from difftori_pl.models.cvae import LatentDynamics, Posterior, Score
from difftori_pl.models.normalizer import Normalizer


def test_sizes_are_those_of_the_paper() -> None:
    # Appendix C with Zs = 50, A = 7 and a posterior of 64 dimensions.
    posterior, score, dynamics = Posterior(50, 7), Score(114, 7), LatentDynamics(114, 7)
    assert [tuple(p.shape) for p in posterior.parameters() if p.ndim == 2] == [(256, 57), (256, 256), (128, 256)]
    assert [tuple(p.shape) for p in score.parameters() if p.ndim == 2] == [(512, 121), (512, 512), (1, 512)]
    assert [tuple(p.shape) for p in dynamics.parameters() if p.ndim == 2] == [(512, 121), (512, 512), (114, 512)]


def test_the_score_starts_flat_and_has_no_last_bias() -> None:
    score = Score(4, 2)
    action = torch.randn(3, 2, requires_grad=True)
    (gradient,) = torch.autograd.grad(score(torch.randn(3, 4), action).sum(), action)
    assert torch.equal(gradient, torch.zeros(3, 2))
    assert score.net[-1].bias is None


def test_the_posterior_takes_latents_and_plans() -> None:
    posterior = Posterior(4, 6, sample_dim=5)
    mean, log_variance = posterior(torch.randn(3, 4), torch.randn(3, 3, 2))
    assert mean.shape == log_variance.shape == (3, 5)


def test_normalising_gives_zero_mean_and_unit_deviation_and_floors_constants() -> None:
    torch.manual_seed(0)
    values = torch.randn(1000, 2) * torch.tensor([3.0, 0.0]) + 5.0
    normalizer = Normalizer({"x": 2}, min_std=0.01)
    assert_close(normalizer({"x": values, "other": values}), {"x": values})
    normalizer.fit({"x": Statistics(values.mean(0), values.std(0), values.amin(0), values.amax(0))})
    out = normalizer({"x": values})["x"]
    assert_close(out[:, 0].mean().item(), 0.0, rtol=0.0, atol=1e-4)
    assert_close(out[:, 0].std().item(), 1.0, rtol=1e-4, atol=0.0)
    assert normalizer({"x": torch.tensor([[5.0, 5.01]])})["x"][0, 1].item() < 1.01


@pytest.mark.parametrize(
    ("scale", "shift", "is_mismatch"),
    [
        (torch.tensor([1.0, 1.0]), 0.0, False),
        (torch.tensor([3.0, 0.3]), 5.0, False),
        (torch.tensor([1.0, 0.0]), 0.0, False),  # the new data do not use one component
        (torch.tensor(1000.0), 0.0, True),
        (torch.tensor(1.0 / 256.0), 0.0, True),
        (torch.tensor(1.0), 200.0, True),
    ],
)
def test_data_in_other_units_are_a_mismatch(scale: torch.Tensor, shift: float, is_mismatch: bool) -> None:
    torch.manual_seed(0)
    values = torch.randn(100, 2) + 1.0

    def statistics(values: torch.Tensor) -> dict[str, Statistics]:
        return {"x": Statistics(values.mean(0), values.std(0), values.amin(0), values.amax(0))}

    normalizer = Normalizer({"x": 2})
    normalizer.fit(statistics(values))
    assert ("x with a spread of 1.37" in normalizer.mismatch(statistics(scale * values + shift))) == is_mismatch
