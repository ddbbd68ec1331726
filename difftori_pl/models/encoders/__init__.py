"""Encoders: observation to latent."""

from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.encoders.recurrent import RecurrentEncoder
from difftori_pl.models.encoders.state import StateEncoder

__all__ = ["Encoder", "RecurrentEncoder", "StateEncoder"]
