"""Callbacks for checkpoints, collecting experience, evaluation in the simulator, averaged weights, images, progress."""

from difftori_pl.callbacks.checkpoint import Checkpoint
from difftori_pl.callbacks.collect import Collect
from difftori_pl.callbacks.ema import ExponentialMovingAverage
from difftori_pl.callbacks.error_line import ErrorLine
from difftori_pl.callbacks.held_out import HeldOutError
from difftori_pl.callbacks.landscape import LandscapeImages
from difftori_pl.callbacks.log_interval import LogInterval
from difftori_pl.callbacks.parameter_count import ParameterCount
from difftori_pl.callbacks.progress import Progress
from difftori_pl.callbacks.rollout import RolloutEvaluation

__all__ = [
    "Checkpoint",
    "Collect",
    "ErrorLine",
    "ExponentialMovingAverage",
    "HeldOutError",
    "LandscapeImages",
    "LogInterval",
    "ParameterCount",
    "Progress",
    "RolloutEvaluation",
]
