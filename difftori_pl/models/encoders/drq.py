"""Encoder of stacked camera frames from DrQ-v2 (arXiv:2107.09645)."""

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.policy import Observation, State


class DrQEncoder(Encoder):
    """Four convolutions with kernels of 3, the first one strided, flattened without a projection.

    The latent is large: 39,200 features for 84 by 84 pixels and 32 filters. Actor and critic of DrQ-v2 project it.

    Args:
        n_channels: channels of the stacked frames; 3 frames have 9.
        image_size: height and width, in pixels.
        n_filters: channels of each convolution.
        key: key of the observation.
    """

    def __init__(self, n_channels: int = 9, image_size: int = 84, n_filters: int = 32, key: str = "pixels") -> None:
        super().__init__()
        self.key = key
        self.obs_specs = {key: ObservationSpec.image(n_channels, image_size, image_size)}
        layers: list[nn.Module] = []
        for in_channels, stride in ((n_channels, 2), (n_filters, 1), (n_filters, 1), (n_filters, 1)):
            layers += [nn.Conv2d(in_channels, n_filters, 3, stride=stride), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            self.latent_dim = self.convolutions(torch.zeros(1, n_channels, image_size, image_size)).shape[-1]

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode each step independently, with pixels from -0.5 to 0.5; see `Encoder.forward`."""
        images = obs[self.key]
        weight = next(self.convolutions.parameters())
        pixels = images.flatten(0, 1).to(weight.dtype, copy=True).div_(255.0).sub_(0.5)
        return self.convolutions(pixels).unflatten(0, images.shape[:2]), state
