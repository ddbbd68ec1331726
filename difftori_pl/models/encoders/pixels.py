"""Encoder of stacked camera frames from TD-MPC (arXiv:2203.04955)."""

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.models.encoders.base import Encoder, frames, to_unit
from difftori_pl.models.policy import Observation, State


class PixelEncoder(Encoder):
    """Four strided convolutions with kernels of 7, 5, 3 and 3, flattened and mapped to the latent.

    Args:
        n_channels: channels of the stacked frames; 3 frames have 9.
        image_size: height and width, in pixels.
        latent_dim: size Z of the latent.
        n_filters: channels of each convolution.
        key: key of the observation.
    """

    takes_unit_images = True

    def __init__(
        self,
        n_channels: int = 9,
        image_size: int = 84,
        latent_dim: int = 50,
        n_filters: int = 32,
        key: str = "pixels",
    ) -> None:
        super().__init__()
        self.key = key
        self.latent_dim = latent_dim
        self.obs_specs = {key: ObservationSpec.image(n_channels, image_size, image_size)}
        layers: list[nn.Module] = []
        for in_channels, kernel in ((n_channels, 7), (n_filters, 5), (n_filters, 3), (n_filters, 3)):
            layers += [nn.Conv2d(in_channels, n_filters, kernel, stride=2), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            n_features = self.convolutions(torch.zeros(1, n_channels, image_size, image_size)).shape[-1]
        self.project = nn.Linear(n_features, latent_dim)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode each step independently; see `Encoder.forward`."""
        images = obs[self.key]
        features = self.convolutions(to_unit(frames(images), self.project.weight.dtype))
        return self.project(features).unflatten(0, images.shape[:2]), state
