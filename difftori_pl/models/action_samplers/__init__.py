"""Samplers of low-energy actions, for implicit policies."""

from difftori_pl.models.action_samplers.base import ActionSampler, Energy
from difftori_pl.models.action_samplers.derivative_free import DerivativeFree
from difftori_pl.models.action_samplers.langevin import Langevin

__all__ = ["ActionSampler", "DerivativeFree", "Energy", "Langevin"]
