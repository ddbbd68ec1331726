"""Solvers, one file each: they give the steps, and know nothing of how they are differentiated."""

from difftori_pl.trajopt.solvers.base import LibrarySolver, Solver, SolverState
from difftori_pl.trajopt.solvers.levenberg_marquardt import LevenbergMarquardt

__all__ = ["LevenbergMarquardt", "LibrarySolver", "Solver", "SolverState"]
