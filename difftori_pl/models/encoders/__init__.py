"""Encoders from observations to latents."""

from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.cloud_augmentation import CloudAugmentation
from difftori_pl.models.encoders.corrupted import CorruptedEncoder
from difftori_pl.models.encoders.dp3 import DP3Encoder
from difftori_pl.models.encoders.drq import DrQEncoder
from difftori_pl.models.encoders.history import HistoryEncoder
from difftori_pl.models.encoders.pixels import PixelEncoder
from difftori_pl.models.encoders.point_cloud import PointCloudEncoder
from difftori_pl.models.encoders.pointnet import PointNetEncoder
from difftori_pl.models.encoders.recurrent import RecurrentEncoder
from difftori_pl.models.encoders.resnet18 import ResNet18Encoder
from difftori_pl.models.encoders.small_conv import SmallConvEncoder
from difftori_pl.models.encoders.state import StateEncoder
from difftori_pl.models.encoders.task import TaskEncoder

__all__ = [
    "CloudAugmentation",
    "CorruptedEncoder",
    "DP3Encoder",
    "DrQEncoder",
    "Encoder",
    "HistoryEncoder",
    "PixelEncoder",
    "PointCloudEncoder",
    "PointNetEncoder",
    "RecurrentEncoder",
    "ResNet18Encoder",
    "SmallConvEncoder",
    "StateEncoder",
    "TaskEncoder",
]
