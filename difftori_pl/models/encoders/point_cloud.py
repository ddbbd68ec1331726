"""Base class of point-cloud encoders: augmentation, subsampling, and the robot's state."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from datamodules.observation_spec import ObservationSpec
from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.cloud_augmentation import CloudAugmentation
from difftori_pl.models.normalizer import Normalizer
from difftori_pl.models.policy import Observation, State


class PointCloudEncoder(Encoder):
    """Encode an unordered point cloud together with the standardised low-dimensional keys.

    Args:
        key: key of the cloud (B, T, N, C).
        n_points: number of points N.
        n_channels: 3 for coordinates, 6 with colours.
        obs_dims: size of each low-dimensional key.
        latent_dim: output size Z of a final linear map; None returns the features.
        n_training_points: size of the random subset of points drawn in each training pass; None uses all points.
        augmentation: augments the points in training; None disables it.
        masked_components: indices, from 0, of the components of each low-dimensional key that are hidden from the
            policy; see `StateEncoder`.
    """

    def __init__(
        self,
        key: str = "point_cloud",
        n_points: int = 1200,
        n_channels: int = 6,
        obs_dims: Mapping[str, int] | None = None,
        latent_dim: int | None = None,
        n_training_points: int | None = None,
        augmentation: CloudAugmentation | None = None,
        masked_components: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.key = key
        self.obs_dims = dict(obs_dims or {})
        self.obs_specs = {key: ObservationSpec.point_cloud(n_points, n_channels)}
        self.obs_specs |= {name: ObservationSpec.vector(dim) for name, dim in self.obs_dims.items()}
        self.normalizer = Normalizer(self.obs_dims, masked_components=masked_components)
        self.n_training_points = n_training_points
        self.augmentation = augmentation
        n_features = self.build(n_channels, sum(self.obs_dims.values()))
        self.latent_dim = n_features if latent_dim is None else latent_dim
        self.project = nn.Identity() if latent_dim is None else nn.Linear(n_features, latent_dim)

    @abstractmethod
    def build(self, n_channels: int, state_dim: int) -> int:
        """Build the networks for points (N, `n_channels`) and states (`state_dim`,), and return the feature size F."""

    @abstractmethod
    def features(self, points: Tensor, state: Tensor) -> Tensor:
        """Return features (B, F) of points (B, N, C) and standardised states (B, D), for any order of the points."""

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Encode each step independently; see `Encoder.forward`."""
        points = obs[self.key]
        if self.training and self.n_training_points is not None:
            chosen = torch.randperm(points.shape[2], device=points.device)[: self.n_training_points]
            points = points[:, :, chosen]
        if self.augmentation is not None:
            points = torch.cat([self.augmentation(points[..., :3]), points[..., 3:]], dim=-1)
        vectors = self.normalizer(obs)
        low_dim = torch.cat([points.new_zeros(*points.shape[:2], 0), *(vectors[key] for key in self.obs_dims)], dim=-1)
        features = self.features(points.flatten(0, 1), low_dim.flatten(0, 1))
        return self.project(features).unflatten(0, points.shape[:2]), state
