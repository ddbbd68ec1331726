"""Backward modes, one file each: they run a solver's steps and decide how the result is differentiated."""

from difftori_pl.trajopt.backward.base import BackwardMode
from difftori_pl.trajopt.backward.detached import Detached
from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.backward.truncated import Truncated
from difftori_pl.trajopt.backward.unroll import Unroll

__all__ = ["BackwardMode", "Detached", "LastSteps", "Truncated", "Unroll"]
