"""Clipped noise on the actions of a deterministic policy, as in TD-MPC and DrQ-v2."""

import torch
from torch import Tensor


def noisy(mean: Tensor, std: float, clip: float) -> Tensor:
    """Add normal noise to actions (N, A), and clamp the sum to [-1, 1]; gradients pass straight through to the mean.

    Args:
        mean: actions in [-1, 1].
        std: standard deviation of the noise.
        clip: largest absolute value of the noise; infinity for no limit.
    """
    action = mean + (std * torch.randn_like(mean)).clamp(-clip, clip)
    return action + (action.clamp(-1.0, 1.0) - action).detach()
