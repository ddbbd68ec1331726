"""Derivative-free sampling (arXiv:2109.00137, Algorithm 1)."""

import torch
from torch import Tensor

from difftori_pl.models.action_samplers.base import ActionSampler, Energy


class DerivativeFree(ActionSampler):
    """Repeatedly resample the actions by their probability and add noise of decreasing size.

    Args:
        n_iterations: number of iterations; 3 in IBC.
        std: standard deviation of the noise in the first iteration; 0.33 in IBC.
        shrink: factor applied to the standard deviation after each iteration; 0.5 in IBC.
    """

    def __init__(self, n_iterations: int = 3, std: float = 0.33, shrink: float = 0.5) -> None:
        self.n_iterations = n_iterations
        self.std = std
        self.shrink = shrink

    def sample(self, energy: Energy, actions: Tensor) -> Tensor:
        """See `ActionSampler.sample`."""
        for iteration in range(self.n_iterations):
            drawn = torch.multinomial(torch.softmax(-energy(actions), dim=1), actions.shape[1], replacement=True)
            actions = actions.gather(1, drawn.unsqueeze(-1).expand_as(actions))
            noise = self.std * self.shrink**iteration * torch.randn_like(actions)
            actions = (actions + noise).clamp(-1.0, 1.0)
        return actions
