"""Learned embedding of the task index."""

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.policy import Observation, State


class TaskEncoder(Encoder):
    """Append a learned embedding of the task to the latents of another encoder.

    The observation of the task is a one-hot vector, as `LeRobotDataModule` delivers it under the key `task`.

    Args:
        encoder: encodes the other observations.
        n_tasks: number of tasks in the data set.
        embedding_dim: size of the embedding.
        key: key of the one-hot vector.

    Raises:
        ConfigurationError: a size is below 1, or the other encoder reads the key too.
    """

    def __init__(self, encoder: Encoder, n_tasks: int, embedding_dim: int = 16, key: str = "task") -> None:
        super().__init__()
        if n_tasks < 1 or embedding_dim < 1:
            raise ConfigurationError(
                f"n_tasks and embedding_dim must be at least 1, got {n_tasks} and {embedding_dim}: "
                "`difftori data check FOLDER` counts the tasks of a LeRobot data set"
            )
        if any(key in part.obs_specs for part in encoder.modules() if isinstance(part, Encoder)):
            raise ConfigurationError(
                f"expected an encoder of the other observations, got one that reads {key!r} too: remove {key!r} from "
                "its obs_dims"
            )
        self.encoder = encoder
        self.key = key
        self.obs_specs = {key: ObservationSpec.vector(n_tasks)}
        self.latent_dim = encoder.latent_dim + embedding_dim
        self.embedding = nn.Embedding(n_tasks, embedding_dim)

    def initial_state(self, batch_size: int) -> State:
        """Return the memory of the other encoder."""
        return self.encoder.initial_state(batch_size)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode a window; see `Encoder.forward`."""
        latents, state = self.encoder(obs, state)
        embedded = obs[self.key].to(latents.dtype) @ self.embedding.weight.to(latents.dtype)
        return torch.cat([latents, embedded], dim=-1), state
