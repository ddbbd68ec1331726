"""The losses of the papers, one equation each: pure functions of tensors."""

import torch
from torch import Tensor


def at_least_float32(values: Tensor) -> Tensor:
    """What a network computed in half precision in float32, where sums and differences of losses need it."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Mean of `values` (B, T) over the steps where `mask` (B, T) is true; zero if there is none.

    `count` () stands for the number of these steps where it is given: with several processes, the mean of theirs.
    """
    return (values * mask).sum() / (mask.sum().clamp(min=1) if count is None else count)


def reconstruction(actions: Tensor, demonstrated: Tensor) -> Tensor:
    """First term of Eq. 9: squared distance between actions and demonstrated actions (..., H, A), shape (...)."""
    return (actions - demonstrated).square().sum((-2, -1))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Second term of Eq. 9: KL(N(mean, exp(log_variance)) | N(0, I)) in nats, for (..., Z), shape (...)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def negative_elbo(reconstruction_error: Tensor, divergence: Tensor, kl_weight: float) -> Tensor:
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


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """The target of the value term of Eq. 3: r + γ Q⁻(z', π(z')), and r alone where the task itself ended; all (...).

    A time limit is no end: what would have been earned after it is bootstrapped.
    """
    return reward + discount * torch.where(terminated, 0.0, next_value)


def horizon_weights(n_steps: int, decay: float, like: Tensor) -> Tensor:
    """λ^(i - t) of Eq. 2 for i = t, ..., t + n_steps - 1: shape (n_steps,)."""
    return decay ** torch.arange(n_steps, device=like.device, dtype=like.dtype)


def consistency(predicted: Tensor, encoded: Tensor) -> Tensor:
    """Third term of Eq. 3: squared distance of latents (..., Z), averaged over Z as in TD-MPC's code, shape (...)."""
    return (at_least_float32(predicted) - at_least_float32(encoded)).square().mean(-1)


def value_error(values: Tensor, target: Tensor) -> Tensor:
    """Second term of Eq. 3 for K value networks: values (K, ...) against one target (...), summed over K."""
    return (at_least_float32(values) - target).square().sum(0)


def policy_gradient(values: Tensor) -> Tensor:
    """Eq. 6, to be minimised: -min_K Q̃(s, a(θ)) for K values (K, ...) of a planned action, shape (...).

    The paper prints it without the minus, which would make the actions worse; its Appendix has it.
    """
    return -at_least_float32(values).amin(0)
