"""A controller for Meta-World's reach task whose camera is badly calibrated: the base policy of `make demo`."""

import torch
from torch import Tensor

from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.policy import Observation, State

CALIBRATION_ERROR = (0.08, 0.0, 0.0)
"""Metres by which the camera sees the goal displaced; the task allows 0.05."""


class MiscalibratedReach(BasePolicy):
    """Move the hand straight to where the camera sees the goal."""

    action_dim = 4

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Propose a velocity towards the displaced goal; see `BasePolicy.propose`."""
        hand, goal = obs["state"][..., :3], obs["state"][..., -3:]
        velocity = (10 * (goal + goal.new_tensor(CALIBRATION_ERROR) - hand)).clamp(-1, 1)
        actions = torch.cat((velocity, torch.zeros_like(velocity[..., :1])), dim=-1)
        return actions.unsqueeze(2).expand(-1, -1, horizon, -1), state
