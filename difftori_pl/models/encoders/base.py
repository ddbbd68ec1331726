"""The base class of encoders."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import Observation, State


class Encoder(nn.Module, ABC):
    """Observation windows to latents, causally: the latent of step t sees the steps up to t and no other.

    One forward pass therefore serves training, where T is the window, and acting, where T is 1 and `state` carries
    what was seen before. An encoder without memory keeps the defaults: no state in, none out.

    Attributes:
        latent_dim: size Z of the latent.
        obs_specs: kind, shape and type of each observation key it reads; empty if it leaves reading to another encoder.
    """

    latent_dim: int
    obs_specs: dict[str, ObservationSpec]

    def initial_state(self, batch_size: int) -> State:
        """Memory before the first step of `batch_size` episodes."""
        del batch_size
        return {}

    @abstractmethod
    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode a window.

        Args:
            obs: key -> (B, T, ...).
            state: memory of the steps before the window.

        Returns:
            Latents (B, T, Z) and the memory after the window.
        """


def refuse_memory(encoder: Encoder, owner: object) -> None:
    """Refuse an encoder that has a memory, for an owner that has one and gives it single steps.

    Raises:
        ConfigurationError: it has one.
    """
    if encoder.initial_state(1):
        raise ConfigurationError(
            f"{type(owner).__name__} remembers earlier steps itself, but {type(encoder).__name__} has a memory of its "
            "own: give it an encoder of single steps"
        )


def check_observations(
    module: nn.Module, delivered: Mapping[str, ObservationSpec | tuple[int, ...]], source: str, remedy: str
) -> None:
    """Refuse observations that lack what an encoder inside a module reads, or have it in another shape.

    Args:
        module: with encoders anywhere.
        delivered: what one step of each observation is, or its shape, where no more is known.
        source: what delivers them, for the message.
        remedy: what to do about it.

    Raises:
        ConfigurationError: the first encoder that they do not fit.
    """
    for name, part in module.named_modules():
        for key, spec in part.obs_specs.items() if isinstance(part, Encoder) else ():
            found = delivered.get(key)
            wanted = spec if isinstance(found, ObservationSpec) else spec.shape
            if found != wanted:
                others = ", ".join(f"{key} {found}" for key, found in delivered.items())
                raise ConfigurationError(
                    f"{name} reads the observation {key!r} with the shape {wanted}, but {source} {others}: {remedy}"
                )


def observation_specs(policy: object) -> dict[str, ObservationSpec]:
    """Kind, shape and type of each observation that the encoders inside a policy read."""
    specs: dict[str, ObservationSpec] = {}
    for part in policy.modules() if isinstance(policy, nn.Module) else ():
        if isinstance(part, Encoder):
            specs |= part.obs_specs
    return specs
