"""A small convolutional encoder, for machines without a GPU: the one of TD-MPC (arXiv:2203.04955)."""

from torch import nn

from difftori_pl.models.encoders.image import ImageEncoder


class SmallConvEncoder(ImageEncoder):
    """Four strided convolutions with kernels of 7, 5, 3 and 3 and 32 channels, flattened; see `ImageEncoder`."""

    def backbone(self) -> nn.Module:
        """See `ImageEncoder.backbone`."""
        layers: list[nn.Module] = []
        for in_channels, kernel in ((3, 7), (32, 5), (32, 3), (32, 3)):
            layers += [nn.Conv2d(in_channels, 32, kernel, stride=2), nn.ReLU()]
        return nn.Sequential(*layers, nn.Flatten())
