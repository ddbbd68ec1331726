"""Solvers, one file each: a solver computes the steps, independently of how they are differentiated."""

from difftori_pl.trajopt.solvers.adam import Adam
from difftori_pl.trajopt.solvers.base import Solver, SolverState, StepSolver
from difftori_pl.trajopt.solvers.gauss_newton import GaussNewton
from difftori_pl.trajopt.solvers.lbfgs import LBFGS
from difftori_pl.trajopt.solvers.levenberg_marquardt import LevenbergMarquardt
from difftori_pl.trajopt.solvers.library import LibrarySolver
from difftori_pl.trajopt.solvers.mppi import MPPI
from difftori_pl.trajopt.solvers.newton_cg import NewtonCG
from difftori_pl.trajopt.solvers.theseus import Theseus

__all__ = [
    "LBFGS",
    "MPPI",
    "Adam",
    "GaussNewton",
    "LevenbergMarquardt",
    "LibrarySolver",
    "NewtonCG",
    "Solver",
    "SolverState",
    "StepSolver",
    "Theseus",
]
