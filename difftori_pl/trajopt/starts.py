"""Initial actions of a solve: noisy copies, policy roll-outs, the previous solution; and the choice of the best."""

from collections.abc import Callable

import torch
from torch import Tensor

from difftori_pl.trajopt.solution import Solution


def shift(actions: Tensor, last: Tensor | None = None) -> Tensor:
    """Return the warm start for the next time step: the plan without its first action.

    Args:
        actions: the previous solution (B, H, A).
        last: the action to append (B, A); None appends zeros, as TD-MPC does.
    """
    last = torch.zeros_like(actions[:, :1]) if last is None else last.unsqueeze(1)
    return torch.cat((actions[:, 1:], last), dim=1)


def policy_rollouts(
    policy: Callable[[Tensor], Tensor],
    dynamics: Callable[[Tensor, Tensor], Tensor],
    latent: Tensor,
    horizon: int,
    n_rollouts: int = 1,
) -> Tensor:
    """Roll out a policy in the learned dynamics; several roll-outs differ only if the policy is random.

    Args:
        policy: π, (B, Z) to (B, A).
        dynamics: the learned d, (B, Z) and (B, A) to (B, Z).
        latent: initial latent (B, Z).
        horizon: number of actions H.
        n_rollouts: number of roll-outs per element.

    Returns:
        Starts (B, n_rollouts, H, A), without a gradient.
    """
    with torch.no_grad():
        latent, actions = latent.repeat_interleave(n_rollouts, dim=0), []
        for _ in range(horizon):
            actions.append(policy(latent))
            latent = dynamics(latent, actions[-1])
        rollouts = torch.stack(actions, dim=1)
        return rollouts.view(-1, n_rollouts, *rollouts.shape[1:])


def add_noise(starts: Tensor, n_starts: int, std: float) -> Tensor:
    """Extend `starts` (B, S, H, A) to `n_starts` with copies of the first plus noise of standard deviation `std`.

    All batch elements share the same noise, so that an element's solution does not depend on the rest of the batch.
    """
    n_missing = n_starts - starts.shape[1]
    if n_missing <= 0:
        return starts
    noise = std * torch.randn(n_missing, *starts.shape[2:], dtype=starts.dtype, device=starts.device)
    return torch.cat((starts, starts[:, :1] + noise), dim=1)


def best_starts(solutions: Solution, n_starts: int) -> Tensor:
    """Return the index (B,) of each element's best solution among solutions (B · S) from S starts per element."""
    values = torch.where(torch.isnan(solutions.best_value), -torch.inf, solutions.best_value).view(-1, n_starts)
    return values.argmax(dim=1) + n_starts * torch.arange(len(values), device=values.device)
