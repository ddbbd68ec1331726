"""Encoder that corrupts the low-dimensional observations of another encoder in training."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import Encoder, observation_specs
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.models.policy import Observation, State


class CorruptedEncoder(Encoder):
    """Add noise to the standardised low-dimensional observations of another encoder, and drop some, in training only.

    Demonstrations cover a narrow tube of states, in which small differences between observations predict the next
    action, for instance by copying the last movement. Noise hides differences that are smaller than itself. Dropout
    prevents a policy from relying on a single observation. Masked components stay masked. In evaluation mode, in
    deployed and in exported policies, and in a frozen base policy, nothing is corrupted.

    Args:
        encoder: reads the corrupted observations; it must standardise them.
        noise: standard deviation of the noise, as a fraction of the standard deviation of each component. It is
            independent in each step.
        dropout: probability of dropping a group of components in all steps of a window; they are replaced by their
            mean.
        groups: for each key, the groups of components, as lists of indices from 0, that are dropped independently. The
            default group of a key is the whole key. Components of a listed key that are in none of its groups are
            never dropped.

    Raises:
        ConfigurationError: a number is out of range, `groups` names a key or component that does not exist, or
            `encoder` standardises no observation.
    """

    def __init__(
        self,
        encoder: Encoder,
        noise: float = 0.0,
        dropout: float = 0.0,
        groups: Mapping[str, Sequence[Sequence[int]]] | None = None,
    ) -> None:
        super().__init__()
        if not noise >= 0.0:
            raise ConfigurationError(f"noise must be 0 or above, got {noise}")
        if not 0.0 <= dropout < 1.0:
            raise ConfigurationError(f"dropout must be at least 0 and below 1, got {dropout}")
        self.encoder = encoder
        self.obs_specs = {}
        self.latent_dim = encoder.latent_dim
        self.noise, self.dropout = noise, dropout
        dims = {key: spec.shape[0] for key, spec in observation_specs(encoder).items() if spec.kind == "vector"}
        keys = {key for part in self._normalizers() for key in part.keys}
        if keys != dims.keys() or not keys:
            raise ConfigurationError(
                "expected an encoder that standardises each low-dimensional observation, got a "
                f"{type(encoder).__name__} that reads {sorted(dims)} and standardises {sorted(keys)}: set normalize to "
                "true in it, or use it without CorruptedEncoder"
            )
        groups = dict(groups or {})
        for key, members in groups.items():
            if key not in dims or not all(0 <= index < dims[key] for group in members for index in group):
                raise ConfigurationError(
                    f"groups must hold lists of indices, from 0, of components of {dims}, got "
                    f"{{{key!r}: {[list(group) for group in members]}}}"
                )
        for key, dim in dims.items():
            members = groups.get(key, [range(dim)])
            is_member = torch.tensor([[index in group for index in range(dim)] for group in members]).view(-1, dim)
            self.register_buffer(f"{key}_groups", is_member.float(), persistent=False)

    def initial_state(self, batch_size: int) -> State:
        """Return the memory of the wrapped encoder; see `Encoder.initial_state`."""
        return self.encoder.initial_state(batch_size)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode the observations, corrupted in training mode; see `Encoder.forward`."""
        latent: tuple[Tensor, State] = self.encoder({**obs, **self._corrupted(obs)} if self.training else obs, state)
        return latent

    def _normalizers(self) -> list[Normalizer]:
        return [part for part in self.encoder.modules() if isinstance(part, Normalizer)]

    def _corrupted(self, obs: Observation) -> dict[str, Tensor]:
        """Return the corrupted low-dimensional observations (B, T, dim), in their units."""
        corrupted = {}
        for normalizer in self._normalizers():
            for key, standardised in normalizer(obs).items():
                groups = self.get_buffer(f"{key}_groups")
                drawn = torch.rand(len(standardised), len(groups), device=groups.device) < self.dropout
                is_dropped = (drawn.to(groups.dtype) @ groups > 0).unsqueeze(1)
                noisy = standardised + self.noise * torch.randn_like(standardised)
                corrupted[key] = normalizer.restore(key, noisy.masked_fill(is_dropped, 0.0))
        return corrupted
