import math

import torch
from torch import distributions
from torch.testing import assert_close

from difftori_pl.losses import gaussian_kl, info_nce, masked_mean, negative_elbo, reconstruction, reparameterize


def test_kl_equals_torch_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    log_variance = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    posterior = distributions.Normal(mean, (0.5 * log_variance).exp())
    prior = distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    assert_close(gaussian_kl(mean, log_variance), distributions.kl_divergence(posterior, prior).sum(-1))


def test_kl_is_zero_only_at_the_prior() -> None:
    zeros = torch.zeros(3)
    assert gaussian_kl(zeros, zeros).item() == 0.0
    assert gaussian_kl(zeros + 0.1, zeros).item() > 0.0
    assert gaussian_kl(zeros, zeros + 0.1).item() > 0.0


def test_the_divergence_is_a_cost() -> None:
    # Eq. 9 as printed in the paper subtracts the divergence.
    assert negative_elbo(torch.tensor(2.0), torch.tensor(3.0), kl_weight=0.5).item() == 3.5


def test_reconstruction_sums_over_horizon_and_action() -> None:
    actions = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    assert reconstruction(actions, torch.zeros_like(actions)).tolist() == [30.0]


def test_masked_mean_ignores_padding_and_survives_an_empty_mask() -> None:
    values = torch.tensor([[1.0, 5.0], [3.0, 100.0]])
    assert masked_mean(values, torch.tensor([[True, True], [True, False]])).item() == 3.0
    assert masked_mean(values, torch.zeros(2, 2, dtype=torch.bool)).item() == 0.0


def test_reparameterised_samples_have_the_moments_and_pass_gradients() -> None:
    torch.manual_seed(0)
    mean = torch.full((200_000,), 2.0, requires_grad=True)
    sample = reparameterize(mean, torch.full((200_000,), math.log(9.0)))
    assert_close(sample.mean().item(), 2.0, rtol=0.0, atol=0.03)
    assert_close(sample.std().item(), 3.0, rtol=0.0, atol=0.03)
    sample.sum().backward()
    assert_close(mean.grad, torch.ones_like(mean))


def test_info_nce_by_hand() -> None:
    # exp(-E) is 1/2 for the demonstrated action, and 1/4, 1/8 and 1/8 for the others; the ratio to the sum is 1/2.
    energy, others = torch.tensor([2.0]).log(), torch.tensor([[4.0, 8.0, 8.0]]).log()
    assert_close(info_nce(energy, others), torch.tensor([2.0]).log())
    assert_close(info_nce(energy + 7.0, others + 7.0), torch.tensor([2.0]).log())
    assert info_nce(energy - 50.0, others).abs().max() < 1e-6
