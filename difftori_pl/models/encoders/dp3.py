"""Point-cloud encoder of 3D Diffusion Policy (DP3, arXiv:2403.03954)."""

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.max_pool import max_pool
from difftori_pl.models.encoders.point_cloud import PointCloudEncoder


class DP3Encoder(PointCloudEncoder):
    """Point-wise MLP with max pooling, and a separate MLP of the robot's state.

    The MLP of the coordinates has 64, 128 and 256 units with layer norm, followed by max pooling over the points and a
    linear map to 64 features. Colours are ignored, as in DP3, whose policies did not benefit from them. See
    `PointCloudEncoder` for the arguments.
    """

    def build(self, n_channels: int, state_dim: int) -> int:
        """See `PointCloudEncoder.build`."""
        del n_channels
        self.points = nn.Sequential(
            *(nn.Linear(3, 64), nn.LayerNorm(64), nn.ReLU()),
            *(nn.Linear(64, 128), nn.LayerNorm(128), nn.ReLU()),
            *(nn.Linear(128, 256), nn.LayerNorm(256)),  # its ReLU follows the max pooling, with the same result
        )
        self.out = nn.Sequential(nn.Linear(256, 64), nn.LayerNorm(64))
        self.state = nn.Sequential(nn.Linear(state_dim, 64), nn.ReLU(), nn.Linear(64, 64)) if state_dim else None
        return 128 if state_dim else 64

    def features(self, points: Tensor, state: Tensor) -> Tensor:
        """See `PointCloudEncoder.features`."""
        pooled = max_pool(lambda points, _: self.points(points), points[..., :3], state, self.training)
        cloud = self.out(nn.functional.relu(pooled))
        return cloud if self.state is None else torch.cat([cloud, self.state(state)], dim=-1)
