"""Behaviour cloning by least squares."""

from collections.abc import Sequence

import torch
from torch import Tensor

from difftori_pl.models.base_policies.base import LearnedPolicy
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.mlp import mlp
from difftori_pl.models.normalizer import MIN_ACTION_STD, Normalizer
from difftori_pl.models.policy import Observation, State


class BC(LearnedPolicy):
    """An encoder and an MLP, fitted to the demonstrated actions by squared error.

    Args:
        encoder: maps observations to latents.
        action_dim: size A of an action.
        hidden_dims: hidden layers of the MLP; 1024 and 1024 in robomimic.
        normalize_actions: predict actions, and compute the loss, in standard deviations of each component from its
            mean, without a tanh. In raw units small components are neglected: on ManiSkill2's PickCube the gripper has
            92 % of the variance and the hand's motion in x and y, which decides the grasp, 0.5 %.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        hidden_dims: Sequence[int] = (1024, 1024),
        normalize_actions: bool = False,
    ) -> None:
        super().__init__()
        self.action_dim = action_dim
        self.encoder = encoder
        self.head = mlp(encoder.latent_dim, hidden_dims, action_dim)
        self.normalizer = Normalizer({"actions": action_dim}, min_std=MIN_ACTION_STD) if normalize_actions else None

    def initial_state(self, batch_size: int) -> State:
        """Return the encoder's memory; see `BasePolicy.initial_state`."""
        return self.encoder.initial_state(batch_size)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Predict one action (B, T, A) for each step; with `normalize_actions` it may lie outside [-1, 1]."""
        latent, state = self.encoder(obs, state)
        output = self.head(latent)
        # No tanh with normalised actions: it saturates for small action scales.
        return torch.tanh(output) if self.normalizer is None else self.normalizer.restore("actions", output), state

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Predict one action for each step and hold it over the horizon; see `BasePolicy.propose`."""
        actions, state = self(obs, state)
        return actions.clamp(-1.0, 1.0).unsqueeze(2).expand(-1, -1, horizon, -1), state

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return the squared error, summed over the action (Eq. 8); see `LearnedPolicy.loss`."""
        predicted, _ = self(obs, self.initial_state(len(actions)))
        error = predicted - actions
        return (error / self.normalizer.std("actions") if self.normalizer else error).square().sum(-1)
