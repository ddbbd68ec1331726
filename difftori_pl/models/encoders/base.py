"""Base class of encoders, and checks of the observations they read."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import Observation, State


class Encoder(nn.Module, ABC):
    """Base class of encoders, which map observation windows to latents causally.

    The latent of step t depends on the steps up to t only. The same forward pass therefore serves training, where T is
    the window length, and acting, where T is 1 and `state` holds the memory of earlier steps. Encoders without memory
    keep the default `initial_state`, which is empty, and return `state` unchanged.

    Attributes:
        latent_dim: size Z of the latent.
        obs_specs: kind, shape and dtype of each observation key that the encoder reads; empty if it reads through
            another encoder.
        takes_unit_images: whether its images may also be floats in [0, 1], as from `unit_images`.
    """

    latent_dim: int
    obs_specs: dict[str, ObservationSpec]
    takes_unit_images: ClassVar[bool] = False

    def initial_state(self, batch_size: int) -> State:
        """Return the memory before the first step of `batch_size` episodes."""
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
    """Reject an encoder with memory, on behalf of an owner that has a memory and encodes single steps.

    Raises:
        ConfigurationError: the encoder has memory.
    """
    if encoder.initial_state(1):
        raise ConfigurationError(
            f"{type(owner).__name__} expects an encoder without memory, got {type(encoder).__name__}: use an encoder "
            "of single steps"
        )


def check_observations(
    module: nn.Module, delivered: Mapping[str, ObservationSpec | tuple[int, ...]], source: str, remedy: str
) -> None:
    """Reject observations that lack a key which an encoder reads, or have it in another shape.

    Args:
        module: the encoders anywhere inside it are checked.
        delivered: specification of each observation, or its shape if no more is known.
        source: subject and verb for the message, such as "the data deliver".
        remedy: advice for the message.

    Raises:
        ConfigurationError: an encoder does not fit; the message describes the first one.
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
    """Return the kind, shape and dtype of each observation that the encoders inside a policy read."""
    specs: dict[str, ObservationSpec] = {}
    for part in policy.modules() if isinstance(policy, nn.Module) else ():
        if isinstance(part, Encoder):
            specs |= part.obs_specs
    return specs


def to_unit(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Map uint8 images of any shape to [0, 1]; return floats, which are already in [0, 1], in `dtype`."""
    if images.is_floating_point():
        return images.to(dtype)
    # Divide in place: a division into a new tensor takes almost as long as the conversion.
    return images.to(dtype, copy=True).div_(255.0)


def frames(images: Tensor) -> Tensor:
    """Return images (B, T, C, height, width) as frames (B T, C, height, width).

    On a CPU, channels are last in memory: gradients of convolutions then take half the time. GPUs were not measured.
    """
    if not images.is_cpu:
        return images.flatten(0, 1)
    flat = images.movedim(2, -1).flatten(0, 1).movedim(-1, 1)
    return flat.contiguous(memory_format=torch.channels_last)


def unit_images(policy: nn.Module, obs: Observation, dtype: torch.dtype) -> Observation:
    """Map the images that several encoders inside a policy read to [0, 1] once, instead of once in each encoder.

    Images that an encoder reads as uint8 only are returned unchanged, as are other observations.
    """
    readers = [part for part in policy.modules() if isinstance(part, Encoder)]

    def shared(key: str) -> bool:
        own = [part for part in readers if key in part.obs_specs]
        return bool(own) and all(part.takes_unit_images and part.obs_specs[key].kind == "image" for part in own)

    return {key: to_unit(value, dtype) if shared(key) else value for key, value in obs.items()}
