"""Callbacks: evaluation in the simulator."""

from difftori_pl.callbacks.rollout import RolloutEvaluation

__all__ = ["RolloutEvaluation"]
