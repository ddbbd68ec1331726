"""Where a solve may start from: given starts, noisy copies, a policy's roll-outs, the previous solution."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from difftori_pl.trajopt.solution import Solution
from difftori_pl.trajopt.tree import map_tensors


def shift(actions: Tensor, last: Tensor | None = None) -> Tensor:
    """Give the warm start for the next time step: the plan without its first action.

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
    """Let a policy act in the learned dynamics; several roll-outs differ if the policy is random.

    Args:
        policy: π, (B, Z) to (B, A).
        dynamics: the learned d, (B, Z) and (B, A) to (B, Z).
        latent: where to start (B, Z).
        horizon: number H of actions.
        n_rollouts: number of roll-outs for each element.

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
    """Fill `starts` (B, S, H, A) up to `n_starts` with copies of the first, plus noise of that standard deviation.

    All batch elements share one draw, so that an element's answer does not depend on its company.
    """
    n_missing = n_starts - starts.shape[1]
    if n_missing <= 0:
        return starts
    noise = std * torch.randn(n_missing, *starts.shape[2:], dtype=starts.dtype, device=starts.device)
    return torch.cat((starts, starts[:, :1] + noise), dim=1)


def keep_best(solution: Solution, n_starts: int) -> Solution:
    """Keep, of the solutions (B · S) from S starts of each element, the one with the highest best value."""
    values = torch.where(torch.isnan(solution.best_value), -torch.inf, solution.best_value).view(-1, n_starts)
    # What is gained is gained over the first start, the one that would have been without the others.
    first = solution.initial_value.view(-1, n_starts)[:, :1].expand(-1, n_starts).flatten()
    solution = replace(solution, initial_value=first)
    chosen = values.argmax(dim=1) + n_starts * torch.arange(len(values), device=values.device)
    return map_tensors(lambda tensor: tensor.index_select(0, chosen), solution)
