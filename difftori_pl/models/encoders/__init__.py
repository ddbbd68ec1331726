"""Encoders: observation to latent."""

from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.recurrent import RecurrentEncoder
from difftori_pl.models.encoders.resnet18 import ResNet18Encoder
from difftori_pl.models.encoders.small_conv import SmallConvEncoder
from difftori_pl.models.encoders.state import StateEncoder

__all__ = ["Encoder", "RecurrentEncoder", "ResNet18Encoder", "SmallConvEncoder", "StateEncoder"]
