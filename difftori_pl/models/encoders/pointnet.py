"""PointNet (arXiv:1612.00593) as ManiSkill2-Learn's imitation baselines use it."""

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.max_pool import max_pool
from difftori_pl.models.encoders.point_cloud import PointCloudEncoder


class PointNetEncoder(PointCloudEncoder):
    """Each point beside the robot's state through 64, 128 and 512 units, then the largest of each; the state again.

    There is no transformation network. Arguments are those of `PointCloudEncoder`.
    """

    def build(self, n_channels: int, state_dim: int) -> int:
        """See `PointCloudEncoder.build`."""
        # The first layer of the concatenation, split in two: the state's part is the same for all points.
        self.first = nn.Linear(n_channels, 64)
        self.first_of_state = nn.Linear(state_dim, 64, bias=False) if state_dim else None
        self.rest = nn.Sequential(
            *(nn.LayerNorm(64), nn.ReLU()),
            *(nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU()),
            *(nn.Linear(128, 512), nn.LayerNorm(512)),  # the last ReLU may as well follow the maximum
        )
        return 512 + state_dim

    def features(self, points: Tensor, state: Tensor) -> Tensor:
        """See `PointCloudEncoder.features`."""
        pooled = max_pool(self._features_of_points, points, state, self.training)
        return torch.cat([nn.functional.relu(pooled), state], dim=-1)

    def _features_of_points(self, points: Tensor, state: Tensor) -> Tensor:
        first = self.first(points)
        if self.first_of_state is not None:
            first = first + self.first_of_state(state)
        features: Tensor = self.rest(first)
        return features
