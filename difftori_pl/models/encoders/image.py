"""Base class of image encoders: random cropping, one backbone per camera, and the low-dimensional keys."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import Encoder, to_unit
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.models.policy import Observation, State


class ImageEncoder(Encoder):
    """Encode each camera's images with a separate network and append the standardised low-dimensional keys.

    In training mode, each window and camera is cropped at one random position, because a camera does not jump between
    frames; otherwise the centre is cropped. This is robomimic's `CropRandomizer`, without which its image policies
    fail.

    Args:
        cameras: keys of uint8 images (B, T, 3, height, width).
        image_size: height and width of the images, in pixels.
        crop_size: height and width after cropping, at most `image_size`; robomimic crops 84 to 76.
        obs_dims: size of each low-dimensional key.
        latent_dim: output size Z of a final linear map; None returns the concatenated features.
    """

    takes_unit_images = True

    def __init__(
        self,
        cameras: Sequence[str],
        image_size: int = 84,
        crop_size: int = 76,
        obs_dims: Mapping[str, int] | None = None,
        latent_dim: int | None = None,
    ) -> None:
        super().__init__()
        if not 1 <= crop_size <= image_size:
            raise ConfigurationError(
                f"crop_size must be from 1 to image_size, got crop_size {crop_size} and image_size {image_size}: set "
                f"crop_size to {image_size} to disable cropping, or image_size to the size of the images"
            )
        self.cameras = tuple(cameras)
        self.obs_dims = dict(obs_dims or {})
        self.obs_specs = dict.fromkeys(cameras, ObservationSpec.image(3, image_size, image_size))
        self.obs_specs |= {key: ObservationSpec.vector(dim) for key, dim in self.obs_dims.items()}
        self.crop_size = crop_size
        self.normalizer = Normalizer(self.obs_dims)
        self.backbones = nn.ModuleList([self.backbone() for _ in self.cameras])
        with torch.no_grad():
            probe = self.backbones[0](torch.zeros(1, 3, crop_size, crop_size))
        features = len(self.cameras) * probe.shape[-1] + sum(self.obs_dims.values())
        self.latent_dim = features if latent_dim is None else latent_dim
        self.project = nn.Identity() if latent_dim is None else nn.Linear(features, latent_dim)

    @abstractmethod
    def backbone(self) -> nn.Module:
        """Make the network of one camera: images (B, 3, height, width) in [-0.5, 0.5] to features (B, F)."""

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode each step independently; see `Encoder.forward`."""
        vectors = self.normalizer(obs)
        features = [vectors[key] for key in self.obs_dims]
        for camera, backbone in zip(self.cameras, self.backbones, strict=True):
            images = self._crop(obs[camera])
            flat = to_unit(images.flatten(0, 1), next(backbone.parameters()).dtype) - 0.5
            features.append(backbone(flat).unflatten(0, images.shape[:2]))
        return self.project(torch.cat(features, dim=-1)), state

    def _crop(self, images: Tensor) -> Tensor:
        """Crop images (B, T, 3, height, width) to `crop_size`."""
        n_windows, (height, width) = len(images), images.shape[-2:]
        size = torch.arange(self.crop_size, device=images.device)
        if self.training:
            top = torch.randint(height - self.crop_size + 1, (n_windows, 1), device=images.device)
            left = torch.randint(width - self.crop_size + 1, (n_windows, 1), device=images.device)
        else:
            top = torch.full((n_windows, 1), (height - self.crop_size) // 2, device=images.device)
            left = torch.full((n_windows, 1), (width - self.crop_size) // 2, device=images.device)
        window = torch.arange(n_windows, device=images.device)[:, None, None]
        rows, columns = (top + size)[:, :, None], (left + size)[:, None, :]
        # Indexing the first and the last two dimensions gives (B, rows, columns, T, 3).
        return images[window, :, :, rows, columns].permute(0, 3, 4, 1, 2)
