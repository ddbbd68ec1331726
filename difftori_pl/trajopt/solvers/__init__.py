"""Solvers, one file each: they give the steps, and know nothing of how they are differentiated."""

from difftori_pl.trajopt.solvers.adam import Adam
from difftori_pl.trajopt.solvers.base import LibrarySolver, Solver, SolverState, StepSolver
from difftori_pl.trajopt.solvers.levenberg_marquardt import LevenbergMarquardt
from difftori_pl.trajopt.solvers.mppi import MPPI
from difftori_pl.trajopt.solvers.theseus import Theseus

__all__ = ["MPPI", "Adam", "LevenbergMarquardt", "LibrarySolver", "Solver", "SolverState", "StepSolver", "Theseus"]
