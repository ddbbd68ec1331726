"""PointNet (arXiv:1612.00593) as in the imitation baselines of ManiSkill2-Learn."""

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.max_pool import max_pool
from difftori_pl.models.encoders.point_cloud import PointCloudEncoder


class PointNetEncoder(PointCloudEncoder):
    """Point-wise MLP of each point concatenated with the robot's state, max pooling, and the state appended.

    The MLP has 64, 128 and 512 units. There is no transformation network. See `PointCloudEncoder` for the arguments.
    """

    def build(self, n_channels: int, state_dim: int) -> int:
        """See `PointCloudEncoder.build`."""
        # The first layer of the concatenation is split in two, because the state's part is the same for all points.
        self.first = nn.Linear(n_channels, 64)
        self.first_of_state = nn.Linear(state_dim, 64, bias=False) if state_dim else None
        self.rest = nn.Sequential(
            *(nn.LayerNorm(64), nn.ReLU()),
            *(nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU()),
            *(nn.Linear(128, 512), nn.LayerNorm(512)),  # its ReLU follows the max pooling, with the same result
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
