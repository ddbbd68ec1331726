"""Loss functions, one equation each."""

import torch
from torch import Tensor

MAX_LOSS = 1e4
"""TD-MPC clips each term of the loss and the priorities to this value."""


def at_least_float32(values: Tensor) -> Tensor:
    """Convert half precision to float32, which sums and differences in losses need; keep float64."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def masked_mean(values: Tensor, mask: Tensor, count: Tensor | None = None) -> Tensor:
    """Average `values` (B, T) over the steps where `mask` (B, T) is true; return zero if there is none.

    `count` () replaces the number of these steps; with several processes, pass the mean of their numbers.
    """
    return (values * mask).sum() / (mask.sum().clamp(min=1) if count is None else count)


def reconstruction(actions: Tensor, demonstrated: Tensor) -> Tensor:
    """Return the first term of Eq. 9, the squared distance (...) of actions to demonstrated actions (..., H, A)."""
    return (actions - demonstrated).square().sum((-2, -1))


def gaussian_kl(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the second term of Eq. 9, KL(N(mean, exp(log_variance)) | N(0, I)) in nats, (...) for inputs (..., Z)."""
    return 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(-1)


def negative_elbo(reconstruction_error: Tensor, divergence: Tensor, kl_weight: float) -> Tensor:
    """Return Eq. 9 as a loss to minimise, reconstruction plus weighted divergence.

    The paper prints a minus before the divergence, which would reward a posterior far from the prior.
    """
    return reconstruction_error + kl_weight * divergence


def reparameterize(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Sample N(mean, exp(log_variance)) with gradients to both arguments."""
    return mean + torch.randn_like(mean) * (0.5 * log_variance).exp()


def info_nce(energy: Tensor, counter_energies: Tensor) -> Tensor:
    """Return the InfoNCE loss of IBC (arXiv:2109.00137, Eq. 2) in nats.

    Args:
        energy: energy of the demonstrated action (...).
        counter_energies: energies of the counter-examples (..., N).

    Returns:
        -log(exp(-E) / (exp(-E) + sum_j exp(-E_j))), shape (...).
    """
    return energy + torch.logsumexp(-torch.cat([energy.unsqueeze(-1), counter_energies], dim=-1), dim=-1)


def td_target(reward: Tensor, next_value: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """Return the target of the value term of Eq. 3, r + γ Q⁻(z', π(z')), or r where the task terminated; all (...).

    A time limit is not a termination: the value after it is bootstrapped.
    """
    return reward + discount * torch.where(terminated, 0.0, next_value)


def n_step_target(rewards: Tensor, last_value: Tensor, terminated: Tensor, discount: float) -> Tensor:
    """Return the target of n steps, Σ_{i<n} γ^i r_i + γ^n V, without what follows a termination.

    Args:
        rewards: (..., n).
        last_value: value V (...) after the last step.
        terminated: whether the task terminated with each step (..., n).
        discount: γ.
    """
    value = last_value
    for reward, end in zip(reversed(rewards.unbind(-1)), reversed(terminated.unbind(-1)), strict=True):
        value = td_target(reward, value, end, discount)
    return value


def horizon_weights(n_steps: int, decay: float, like: Tensor) -> Tensor:
    """Return the weights λ^(i - t) of Eq. 2 for i = t, ..., t + n_steps - 1, shape (n_steps,)."""
    return decay ** torch.arange(n_steps, device=like.device, dtype=like.dtype)


def consistency(predicted: Tensor, encoded: Tensor) -> Tensor:
    """Return the third term of Eq. 3, the squared distance (...) of latents (..., Z), averaged over Z as in TD-MPC."""
    return (at_least_float32(predicted) - at_least_float32(encoded)).square().mean(-1)


def value_error(values: Tensor, target: Tensor) -> Tensor:
    """Return the second term of Eq. 3 (...) for values (K, ...) and one target (...), summed over the K networks."""
    return (at_least_float32(values) - target).square().sum(0)


def policy_gradient(values: Tensor) -> Tensor:
    """Return Eq. 6 as a loss to minimise, -min_K Q̃(s, a(θ)), (...) for the values (K, ...) of a planned action.

    Eq. 6 is printed without the minus, which would worsen the actions; the paper's Appendix has it.
    """
    return -at_least_float32(values).amin(0)
