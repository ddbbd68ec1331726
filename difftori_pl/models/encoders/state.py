"""Encoder of low-dimensional observations, h in the paper (Appendix C)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.mlp import mlp
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.models.policy import Observation, State


class StateEncoder(Encoder):
    """Standardise the low-dimensional keys, concatenate them in the given order and pass them through an MLP.

    Args:
        obs_dims: size of each key, for instance `{robot0_eef_pos: 3, object: 14}`.
        latent_dim: size Z of the latent; None omits the MLP and returns the concatenated vector.
        hidden_dims: hidden layers of the MLP; 256 and 256 in Appendix C.
        normalize: standardise with the statistics of the training demonstrations.
        masked_components: indices, from 0, of the components of each key that are hidden from the policy, for instance
            velocities: a policy cloned from smooth demonstrations copies its current velocity instead of reacting.

    Raises:
        ConfigurationError: `masked_components` without `normalize`, or a key or component that does not exist.
    """

    def __init__(
        self,
        obs_dims: dict[str, int],
        latent_dim: int | None = 50,
        hidden_dims: Sequence[int] = (256, 256),
        normalize: bool = True,
        masked_components: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        if masked_components and not normalize:
            raise ConfigurationError(
                "masked_components are replaced by their mean, so expected normalize: true, got normalize: false"
            )
        in_dim = sum(obs_dims.values())
        self.obs_specs = {key: ObservationSpec.vector(dim) for key, dim in obs_dims.items()}
        self.latent_dim = in_dim if latent_dim is None else latent_dim
        self.normalizer = Normalizer(obs_dims, masked_components=masked_components) if normalize else None
        self.net = nn.Identity() if latent_dim is None else mlp(in_dim, hidden_dims, latent_dim)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode each step independently; see `Encoder.forward`."""
        vectors = self.normalizer(obs) if self.normalizer else obs
        return self.net(torch.cat([vectors[key] for key in self.obs_specs], dim=-1)), state
