"""Solvers, one file each: they give the steps, and know nothing of how they are differentiated."""

from difftori_pl.trajopt.solvers.base import LibrarySolver, Solver, SolverState, StepSolver
from difftori_pl.trajopt.solvers.levenberg_marquardt import LevenbergMarquardt
from difftori_pl.trajopt.solvers.theseus import Theseus

__all__ = ["LevenbergMarquardt", "LibrarySolver", "Solver", "SolverState", "StepSolver", "Theseus"]
