"""Encoder that concatenates the latents of the last observations."""

import torch
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import Encoder, refuse_memory
from difftori_pl.models.policy import Observation, State


class HistoryEncoder(Encoder):
    """Concatenate another encoder's latents of the last steps, oldest first.

    At the start of an episode or of a training window, the first observation is repeated for the missing steps.

    Args:
        encoder: encodes each step; it must have no memory.
        n_obs_steps: number of concatenated steps; 2 in DP3 and in DiffTORI on Meta-World.
    """

    blank: Tensor

    def __init__(self, encoder: Encoder, n_obs_steps: int = 2) -> None:
        super().__init__()
        if n_obs_steps < 1:
            raise ConfigurationError(f"n_obs_steps must be at least 1, got {n_obs_steps}")
        refuse_memory(encoder, self)
        self.encoder: nn.Module = encoder
        self.obs_specs = {}
        self.latent_dim = n_obs_steps * encoder.latent_dim
        self.register_buffer("blank", torch.zeros(n_obs_steps - 1, encoder.latent_dim), persistent=False)

    def initial_state(self, batch_size: int) -> State:
        """Return a memory without observations."""
        age = torch.zeros(batch_size, dtype=torch.long, device=self.blank.device)
        return {"seen": self.blank.repeat(batch_size, 1, 1), "age": age}

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Concatenate the latent of each step with those before it; see `Encoder.forward`."""
        latents, _ = self.encoder(obs, {})
        n_steps = latents.shape[1]
        is_first = (state["age"] == 0)[:, None, None]
        seen = torch.where(is_first, latents[:, :1], state["seen"].to(latents.dtype))
        both = torch.cat([seen, latents], dim=1)
        stacked = torch.cat([both[:, first : first + n_steps] for first in range(len(self.blank) + 1)], dim=-1)
        return stacked, {"seen": both[:, n_steps:], "age": state["age"] + n_steps}
