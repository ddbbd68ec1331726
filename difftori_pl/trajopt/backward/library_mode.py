"""Backward modes of a library, for comparison."""

import torch
from torch import Tensor

from difftori_pl.trajopt.backward.base import BackwardMode, conclude
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solution import Solution
from difftori_pl.trajopt.solvers.base import Solver
from difftori_pl.trajopt.solvers.library import LibrarySolver
from difftori_pl.trajopt.tree import detach


class LibraryMode(BackwardMode):
    """Differentiate by one of the backward modes of the solver's library.

    For Theseus: `unroll` and `truncated` (one step) agree with the modes of this package. `implicit` approximates the
    inverse Hessian by one Gauss–Newton step; with one residual that has rank one, and the gradient is off by orders of
    magnitude. `dlm` reaches the latent only, because the library has no access to the objective's parameters.

    Args:
        name: the library's name of the mode.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def excludes(self, solver: Solver) -> str | None:
        """Exclude solvers that are not library solvers, or whose library has no such mode."""
        if isinstance(solver, LibrarySolver) and self.name in solver.own_modes:
            return None
        known = sorted(solver.own_modes) if isinstance(solver, LibrarySolver) else ["none"]
        return f"{type(solver).__name__} has no library backward mode {self.name!r}; it has {', '.join(known)}"

    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve and differentiate within the library."""
        assert isinstance(solver, LibrarySolver)
        # Solve with a graph even without gradients, because a library's steps may depend on the mode.
        loop = solver.solve(problem, latent, problem.bounds.to_iterate(actions), 1, self.name)
        return conclude(solver, problem, loop if torch.is_grad_enabled() else detach(loop))
