"""Residual policy, a learned correction of another policy's action (the baseline "Residual" of Tables 1 and 2)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from difftori_pl.models.base_policies.base import BasePolicy, LearnedPolicy
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.mlp import mlp
from difftori_pl.models.normalizer import MIN_ACTION_STD, Normalizer
from difftori_pl.models.policy import Observation, State, join, part


class Residual(LearnedPolicy):
    """Add an MLP's output to the action that a frozen base policy proposes.

    The correction and the loss are in standard deviations of each action component. The last layer is initialised to
    zero, so an untrained residual policy returns the actions of its base policy.

    Args:
        base: proposes the action; it is frozen.
        encoder: maps observations to latents.
        hidden_dims: hidden layers of the MLP, whose input is the latent and the proposed action.
    """

    def __init__(self, base: BasePolicy, encoder: Encoder, hidden_dims: Sequence[int] = (512, 512)) -> None:
        super().__init__()
        self.action_dim = base.action_dim
        self.base = base.requires_grad_(False).eval()
        self.encoder = encoder
        self.normalizer = Normalizer({"actions": base.action_dim}, min_std=MIN_ACTION_STD)
        self.correction = mlp(encoder.latent_dim + base.action_dim, hidden_dims, base.action_dim)
        last: nn.Linear = self.correction[-1]  # type: ignore[assignment]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def train(self, mode: bool = True) -> "Residual":
        """Set the training mode, except of the base policy, which stays in evaluation mode."""
        super().train(mode)
        self.base.eval()
        return self

    def reference_policies(self) -> dict[str, BasePolicy]:
        """Return the base policy."""
        return {"base": self.base}

    def initial_state(self, batch_size: int) -> State:
        """Return the memories of the encoder and the base policy; see `BasePolicy.initial_state`."""
        return join(encoder=self.encoder.initial_state(batch_size), base=self.base.initial_state(batch_size))

    def forward(
        self, obs: Observation, horizon: int, state: State, demonstrated: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Return corrected actions (B, T, H, A), which may lie outside [-1, 1], and the memory after the window.

        If the demonstrated actions (B, T, H, A) are given, the base policy's proposals come from `propose_posterior`.
        """
        latent, encoder_state = self.encoder(obs, part(state, "encoder"))
        base_state = part(state, "base")
        with torch.no_grad():
            if demonstrated is None:
                proposed, base_state = self.base.propose(obs, horizon, base_state)
            else:
                proposed, base_state = self.base.propose_posterior(obs, demonstrated, base_state)
        latent = latent.unsqueeze(2).expand(-1, -1, horizon, -1)
        scaled = self.normalizer({"actions": proposed})["actions"]
        correction = self.correction(torch.cat([latent, scaled], dim=-1)) * self.normalizer.std("actions")
        return proposed + correction, join(encoder=encoder_state, base=base_state)

    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Correct the actions that the base policy proposes; see `BasePolicy.propose`."""
        actions, state = self(obs, horizon, state)
        return actions.clamp(-1.0, 1.0), state

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Correct the base policy's posterior proposals; see `BasePolicy.propose_posterior`."""
        corrected, state = self(obs, actions.shape[2], state, actions)
        return corrected.clamp(-1.0, 1.0), state

    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return the squared error in standard deviations, summed over the action; see `LearnedPolicy.loss`."""
        return self._loss(obs, actions, self.initial_state(len(actions)))

    def training_loss(self, obs: Observation, actions: Tensor, demo: Tensor) -> Tensor:
        """Return the `loss` with the base policy's `training_state`; see `LearnedPolicy.training_loss`."""
        state = self.initial_state(len(actions)) | join(base=self.base.training_state(demo))
        return self._loss(obs, actions, state)

    def _loss(self, obs: Observation, actions: Tensor, state: State) -> Tensor:
        corrected, _ = self(obs, 1, state, actions.unsqueeze(2) if self.training else None)
        return ((corrected[:, :, 0] - actions) / self.normalizer.std("actions")).square().sum(-1)
