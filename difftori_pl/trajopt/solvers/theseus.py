"""The Theseus library: with its defaults the published solver, the reference for the closed form."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState, check_positive
from difftori_pl.trajopt.solvers.library import LibrarySolver
from difftori_pl.trajopt.tree import concatenate, map_tensors

if TYPE_CHECKING:
    from difftori_pl.trajopt.search import Search

OPTIMIZERS = ("LevenbergMarquardt", "GaussNewton", "Dogleg")
LINEAR_SOLVERS = ("CholeskyDenseSolver", "LUDenseSolver")


class Theseus(LibrarySolver):
    """The authors' solver and settings: one residual offset − G, dense Cholesky, constant damping.

    Differs from the authors' set-up in two points: each batch element is a problem of its own, and the tests on r²,
    which in float32 end the solve after a few steps because r² ≈ offset², are switched off: all steps are taken.

    Where the library's factorisation fails, it fails for the whole batch; the elements are then solved one by one.
    An element that fails alone is left at its best iterate, with 0 steps counted. Gauss–Newton and Dogleg do not damp
    their system, which with fewer residuals than actions is singular: there every element fails by Cholesky.

    Args:
        max_steps: number of steps; the authors take 50 to 200.
        step_size: fraction of each step that is taken; the authors take 3e-5 to 1e-3.
        damping: added to the diagonal of the normal equations; the authors take 1e-3 to 0.5. Levenberg–Marquardt only.
        offset: what the return, or each of its terms, is subtracted from, above all that can be reached.
        optimizer: class of the library: LevenbergMarquardt, GaussNewton or Dogleg.
        linear_solver: class of the library: CholeskyDenseSolver or LUDenseSolver.
        per_term: one residual per term of the return instead of a single one; see `return_to_residuals`.

    Raises:
        MissingPackageError: theseus, or a package that it imports, is not installed.
        ConfigurationError: there is no such optimiser or linear solver.
    """

    # The library evaluates one element at a time, without its index, so that it cannot select the element's tilt.
    tiltable = False
    own_modes = frozenset({"unroll", "truncated", "implicit", "dlm"})

    def __init__(
        self,
        max_steps: int = 100,
        step_size: float = 1e-4,
        damping: float = 1e-2,
        offset: float = 1000.0,
        optimizer: str = "LevenbergMarquardt",
        linear_solver: str = "CholeskyDenseSolver",
        per_term: bool = False,
    ) -> None:
        _loop()
        check_positive(max_steps=max_steps, step_size=step_size, damping=damping)
        for name, value, known in (
            ("optimizer", optimizer, OPTIMIZERS),
            ("linear_solver", linear_solver, LINEAR_SOLVERS),
        ):
            if value not in known:
                raise ConfigurationError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        self.max_steps = max_steps
        self.step_size = step_size
        self.damping = damping
        self.offset = offset
        self.optimizer = optimizer
        self.linear_solver = linear_solver
        self.per_term = per_term

    def solve(
        self, problem: Problem, latent: Latent, iterate: Tensor, n_differentiated: int, own_mode: str | None = None
    ) -> Search:
        """Run Theseus' loop on the batch, or on each element if one of them breaks the batch."""
        with torch.no_grad():
            problem.evaluate(latent, iterate)  # An error in the objective surfaces here, not as a failed solve.
        search: Search = _loop().run(self, problem, latent, iterate, n_differentiated, own_mode)
        if not search.failed.any():
            return search
        if len(iterate) > 1:
            each = [map_tensors(lambda tensor, b=b: tensor[b : b + 1], (latent, iterate)) for b in range(len(iterate))]
            return concatenate([self.solve(problem, *element, n_differentiated, own_mode) for element in each])
        return self._give_up(problem, latent, iterate, attached=n_differentiated > 0 or own_mode is not None)

    def _give_up(self, problem: Problem, latent: Latent, iterate: Tensor, attached: bool) -> Search:
        with torch.no_grad():
            search: Search = _loop().run(self, problem, latent, iterate, 0)
            best = SolverState(search.best_iterate, problem.evaluate(latent, search.best_iterate))
        search = replace(search, state=best, failed=search.failed | True, n_steps=torch.zeros_like(search.n_steps))
        return search.without_gradient(anchor=problem.value(latent, iterate)) if attached else search


def _loop() -> Any:
    # Imported late, so that the package works without theseus and does not wait for its import.
    try:
        return import_module("difftori_pl.trajopt.solvers.theseus_loop")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the solver Theseus needs the package theseus-ai, but {error.name} is not installed: "
            "pip install scipy urdf_parser_py && pip install --no-build-isolation --no-deps theseus-ai==0.2.3 "
            "torchlie==0.1.0 torchkin==0.1.1; LevenbergMarquardt takes the same steps without it"
        ) from error
