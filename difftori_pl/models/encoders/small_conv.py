"""Small convolutional encoder of TD-MPC (arXiv:2203.04955), for machines without a GPU."""

from torch import nn

from difftori_pl.models.encoders.image import ImageEncoder


class SmallConvEncoder(ImageEncoder):
    """Four strided convolutions with 32 channels and kernel sizes 7, 5, 3 and 3, flattened; see `ImageEncoder`."""

    def backbone(self) -> nn.Module:
        """See `ImageEncoder.backbone`."""
        layers: list[nn.Module] = []
        for in_channels, kernel in ((3, 7), (32, 5), (32, 3), (32, 3)):
            layers += [nn.Conv2d(in_channels, 32, kernel, stride=2), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten())
