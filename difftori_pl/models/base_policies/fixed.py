"""Base policies without learning, zeros and noise, for the paper's ablation of the initialisation (Appendix B.2)."""

import torch
from torch import Tensor

from difftori_pl.models.base_policies.base import BasePolicy
from difftori_pl.models.policy import Observation, State


class Zeros(BasePolicy):
    """Propose zero for every action.

    Args:
        action_dim: size A of an action.
    """

    n_executed_steps = None

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """See `BasePolicy.propose`."""
        return _like(obs).new_zeros(*_like(obs).shape[:2], horizon, self.action_dim), state


class Noise(BasePolicy):
    """Propose actions drawn uniformly from [-1, 1].

    Args:
        action_dim: size A of an action.
    """

    n_executed_steps = None

    def __init__(self, action_dim: int) -> None:
        super().__init__()
        self.action_dim = action_dim

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """See `BasePolicy.propose`."""
        shape = (*_like(obs).shape[:2], horizon, self.action_dim)
        return torch.rand(shape, device=_like(obs).device) * 2.0 - 1.0, state


def _like(obs: Observation) -> Tensor:
    """Return a tensor with the batch size, length, device and floating-point type of the window."""
    tensor = next(iter(obs.values()))
    return tensor if tensor.is_floating_point() else tensor.float()
