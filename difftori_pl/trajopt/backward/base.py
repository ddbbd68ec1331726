"""What every backward mode offers: it runs the solver, and decides how the result is differentiated."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.part import Part
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.search import Search
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver


class BackwardMode(Part, ABC):
    """How gradients of the loss pass through a solve.

    Attributes:
        differentiable: whether any gradient passes.
    """

    differentiable: ClassVar[bool] = True

    @abstractmethod
    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve `problem` and attach this mode's gradient; none under `torch.no_grad()`.

        Args:
            solver: the method; any solver that does not exclude this mode.
            problem: the objective within its bounds.
            latent: what the objective is conditioned on (B, Z).
            actions: initial actions (B, H, A).
        """

    def excludes(self, solver: Solver) -> str | None:
        """Return why this mode cannot differentiate `solver`, or None if it can."""
        del solver
        return None

    def _refusal(self, solver: Solver, reason: str) -> str:
        return f"{type(solver).__name__} cannot be differentiated by {type(self).__name__}: {reason}"


def conclude(solver: Solver, problem: Problem, search: Search) -> Solution:
    """Turn a finished search into the solution: actions instead of iterates, and a status."""
    evaluation = search.state.evaluation
    status = torch.where(solver.done(search.state), int(Status.CONVERGED), int(Status.MAX_STEPS))
    return Solution(
        actions=problem.bounds.to_actions(search.state.iterate),
        value=evaluation.value,
        best_actions=problem.bounds.to_actions(search.best_iterate),
        best_value=search.best_value,
        status=torch.where(search.failed, int(Status.FAILED), status),
        n_steps=search.n_steps,
        grad_norm=evaluation.grad_norm,
        initial_value=search.initial_value,
        trace=search.trace and replace(search.trace, actions=problem.bounds.to_actions(search.trace.actions)),
    )
