"""Backward modes, one file each: a mode runs the solver's steps and differentiates the result."""

from difftori_pl.trajopt.backward.at_solution import AtSolution
from difftori_pl.trajopt.backward.base import BackwardMode
from difftori_pl.trajopt.backward.detached import Detached
from difftori_pl.trajopt.backward.direct_loss import DirectLoss
from difftori_pl.trajopt.backward.implicit import Implicit
from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.backward.library_mode import LibraryMode
from difftori_pl.trajopt.backward.truncated import Truncated
from difftori_pl.trajopt.backward.unroll import Unroll

__all__ = [
    "AtSolution",
    "BackwardMode",
    "Detached",
    "DirectLoss",
    "Implicit",
    "LastSteps",
    "LibraryMode",
    "Truncated",
    "Unroll",
]
