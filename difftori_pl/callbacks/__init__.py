"""Callbacks: collection of experience, evaluation in the simulator, and averaged weights."""

from difftori_pl.callbacks.collect import Collect
from difftori_pl.callbacks.ema import ExponentialMovingAverage
from difftori_pl.callbacks.rollout import RolloutEvaluation

__all__ = ["Collect", "ExponentialMovingAverage", "RolloutEvaluation"]
