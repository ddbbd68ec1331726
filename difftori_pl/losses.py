"""The losses of the papers, one equation each: pure functions of tensors."""

import torch
from torch import Tensor


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of `values` (B, T) over the steps where `mask` (B, T) is true; zero if there is none."""
    return (values * mask).sum() / mask.sum().clamp(min=1)


def reconstruction(actions: Tensor, demonstrated: Tensor) -> Tensor:
    """First term of Eq. 9: squared distance between actions and demonstrated actions (..., H, A), shape (...)."""
    return (actions - demonstrated).square().sum((-2, -1))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Second term of Eq. 9: KL(N(mean, exp(log_variance)) | N(0, I)) in nats, for (..., Z), shape (...)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def elbo(reconstruction_error: Tensor, divergence: Tensor, kl_weight: float) -> Tensor:
    """Eq. 9, to be minimised: reconstruction plus weighted divergence.

    The paper prints a minus before the divergence, which would reward a posterior for leaving the prior.
    """
    return reconstruction_error + kl_weight * divergence


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """A sample of N(mean, exp(log_variance)) that gradients pass through."""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def info_nce(energy: Tensor, counter_energies: Tensor) -> Tensor:
    """InfoNCE of IBC (arXiv:2109.00137, Eq. 2) in nats: how unlikely the demonstrated action is among others.

    Args:
        energy: energy of the demonstrated action (...).
        counter_energies: energies of the counter-examples (..., N).

    Returns:
        -log(exp(-E) / (exp(-E) + sum_j exp(-E_j))), shape (...).
    """
    return energy + torch.logsumexp(-torch.cat([energy.unsqueeze(-1), counter_energies], dim=-1), dim=-1)
