"""The Theseus library; with the default settings it is the published solver."""

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
    from difftori_pl.trajopt.loop_state import LoopState

OPTIMIZERS = ("LevenbergMarquardt", "GaussNewton", "Dogleg")
LINEAR_SOLVERS = ("CholeskyDenseSolver", "LUDenseSolver")


class Theseus(LibrarySolver):
    """The authors' solver and settings: one residual offset − G, dense Cholesky, constant damping.

    Differs from the authors' set-up in two points. Each batch element is a separate problem. The library's convergence
    tests on r² are switched off, so all steps are taken: r² ≈ offset² in float32 would end the solve after a few steps.

    If the library's factorisation fails, it fails for the whole batch; the elements are then solved one by one. An
    element that fails alone keeps its best iterate, and its number of steps is 0. Gauss–Newton and Dogleg do not damp
    their system, which is singular if there are fewer residuals than actions: Cholesky then fails for every element.

    Args:
        max_steps: number of steps; the authors use 50 to 200.
        step_size: fraction of each step that is taken; the authors use 3e-5 to 1e-3.
        damping: added to the diagonal of the normal equations; the authors use 1e-3 to 0.5. Levenberg–Marquardt only.
        offset: constant from which the return, or each of its terms, is subtracted; must exceed all of them.
        optimizer: optimiser class of the library: LevenbergMarquardt, GaussNewton or Dogleg.
        linear_solver: linear solver class of the library: CholeskyDenseSolver or LUDenseSolver.
        per_term: whether to use one residual per term of the return instead of a single one; see
            `return_to_residuals`.

    Raises:
        MissingPackageError: theseus, or a package that it imports, is not installed.
        ConfigurationError: the library has no such optimiser or linear solver.
    """

    # The library evaluates one element at a time without its index, so the element's tilt cannot be selected.
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
        if optimizer not in OPTIMIZERS:
            raise ConfigurationError(f"optimizer must be one of {', '.join(OPTIMIZERS)}, got {optimizer!r}")
        if linear_solver not in LINEAR_SOLVERS:
            raise ConfigurationError(f"linear_solver must be one of {', '.join(LINEAR_SOLVERS)}, got {linear_solver!r}")
        self.max_steps = max_steps
        self.step_size = step_size
        self.damping = damping
        self.offset = offset
        self.optimizer = optimizer
        self.linear_solver = linear_solver
        self.per_term = per_term

    def solve(
        self, problem: Problem, latent: Latent, iterate: Tensor, n_differentiated: int, own_mode: str | None = None
    ) -> LoopState:
        """Run the loop of Theseus on the batch; if an element fails, run it again on each element separately."""
        with torch.no_grad():
            # Raises errors of the objective here; the library would report them as a failed solve.
            problem.evaluate(latent, iterate)
        loop: LoopState = _loop().run(self, problem, latent, iterate, n_differentiated, own_mode)
        if not loop.failed.any():
            return loop
        if len(iterate) > 1:
            each = [map_tensors(lambda tensor, b=b: tensor[b : b + 1], (latent, iterate)) for b in range(len(iterate))]
            return concatenate([self.solve(problem, *element, n_differentiated, own_mode) for element in each])
        return self._give_up(problem, latent, iterate, attached=n_differentiated > 0 or own_mode is not None)

    def _give_up(self, problem: Problem, latent: Latent, iterate: Tensor, attached: bool) -> LoopState:
        with torch.no_grad():
            loop: LoopState = _loop().run(self, problem, latent, iterate, 0)
            best = SolverState(loop.best_iterate, problem.evaluate(latent, loop.best_iterate))
        loop = replace(loop, state=best, failed=loop.failed | True, n_steps=torch.zeros_like(loop.n_steps))
        return loop.without_gradient(anchor=problem.value(latent, iterate)) if attached else loop


def _loop() -> Any:
    # Imported on demand, so that the package works without theseus and does not wait for its import.
    try:
        return import_module("difftori_pl.trajopt.solvers.theseus_loop")
    except ModuleNotFoundError as error:
        raise MissingPackageError(
            f"the solver Theseus needs the package theseus-ai, but {error.name} is not installed: "
            "pip install scipy urdf_parser_py && pip install --no-build-isolation --no-deps theseus-ai==0.2.3 "
            "torchlie==0.1.0 torchkin==0.1.1; the solver LevenbergMarquardt takes the same steps without it"
        ) from error
