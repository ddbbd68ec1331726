"""ResNet-18 with a spatial softmax: the image encoder of robomimic (arXiv:2108.03298)."""

import torch
from torch import Tensor, nn

from difftori_pl.models.encoders.image import ImageEncoder


class ResNet18Encoder(ImageEncoder):
    """ResNet-18 up to its last feature map, a spatial softmax with 32 key points, and a linear map to 64.

    Group normalisation replaces batch normalisation, whose running statistics differ between training and acting and
    between ranks. That harms policies with moving-average weights and small batches.

    See `ImageEncoder` for the arguments.
    """

    def backbone(self) -> nn.Module:
        """See `ImageEncoder.backbone`."""
        from torchvision.models import resnet18

        net = resnet18(weights=None, norm_layer=lambda n_channels: nn.GroupNorm(n_channels // 16, n_channels))
        trunk = list(net.children())[:-2]  # without average pooling and classifier
        return nn.Sequential(*trunk, SpatialSoftmax(in_channels=512, n_points=32), nn.Linear(64, 64))


class SpatialSoftmax(nn.Module):
    """Expected image position under each of K attention maps (arXiv:1504.00702).

    Args:
        in_channels: channels of the feature map.
        n_points: number of key points K.
    """

    def __init__(self, in_channels: int, n_points: int) -> None:
        super().__init__()
        self.attention = nn.Conv2d(in_channels, n_points, kernel_size=1)

    def forward(self, features: Tensor) -> Tensor:
        """Map feature maps (B, C, height, width) to positions (B, 2 K) in [-1, 1], all x before all y."""
        height, width = features.shape[-2:]
        weights = self.attention(features).flatten(2).softmax(-1).unflatten(2, (height, width))
        x = torch.linspace(-1.0, 1.0, width, device=features.device, dtype=features.dtype)
        y = torch.linspace(-1.0, 1.0, height, device=features.device, dtype=features.dtype)
        return torch.cat([(weights.sum(2) * x).sum(-1), (weights.sum(3) * y).sum(-1)], dim=-1)
