"""A backward mode of a library, for comparison."""

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
    """Let the solver's library differentiate by one of its own modes, as it is.

    For Theseus: `unroll` and `truncated` (one step) agree with the modes here; `implicit` takes one Gauss–Newton step
    for the inverse Hessian, which with one residual has rank one, and is off by orders of magnitude; `dlm` reaches only
    the latent, for the objective's parameters are unknown to the library.

    Args:
        name: the library's name of the mode.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def excludes(self, solver: Solver) -> str | None:
        """Refuse a solver that is no library's, or whose library has no such mode."""
        if isinstance(solver, LibrarySolver) and self.name in solver.own_modes:
            return None
        known = sorted(solver.own_modes) if isinstance(solver, LibrarySolver) else ["none"]
        return f"{type(solver).__name__} has no backward mode {self.name!r} of its own: it has {', '.join(known)}"

    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve and differentiate within the library."""
        assert isinstance(solver, LibrarySolver)
        # With a graph in any case: the steps of a library may depend on the mode.
        search = solver.solve(problem, latent, problem.bounds.to_iterate(actions), 1, self.name)
        return conclude(solver, problem, search if torch.is_grad_enabled() else detach(search))
