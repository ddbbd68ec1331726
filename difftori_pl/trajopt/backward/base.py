"""Base class of backward modes."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from torch import Tensor

from difftori_pl.trajopt.loop_state import LoopState
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.part import Part
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver


class BackwardMode(Part, ABC):
    """A method to run a solver and to propagate loss gradients through the solve.

    Attributes:
        differentiable: whether the mode passes any gradient.
    """

    differentiable: ClassVar[bool] = True

    @abstractmethod
    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve `problem` and attach this mode's gradient; under `torch.no_grad()` attach none.

        Args:
            solver: the solver to run; `excludes` must return None for it.
            problem: the objective and its bounds.
            latent: input of the objective (B, Z).
            actions: initial actions (B, H, A).
        """

    def excludes(self, solver: Solver) -> str | None:
        """Return why this mode cannot differentiate `solver`, or None if it can."""
        del solver
        return None

    def _refusal(self, solver: Solver, reason: str) -> str:
        return f"{type(solver).__name__} cannot be differentiated by {type(self).__name__}: {reason}"


def conclude(solver: Solver, problem: Problem, loop: LoopState) -> Solution:
    """Convert a finished loop to a solution, with actions instead of iterates and a status per element."""
    evaluation = loop.state.evaluation
    status = torch.where(solver.done(problem, loop.state), int(Status.CONVERGED), int(Status.MAX_STEPS))
    return Solution(
        actions=problem.bounds.to_actions(loop.state.iterate),
        value=evaluation.value,
        best_actions=problem.bounds.to_actions(loop.best_iterate),
        best_value=loop.best_value,
        status=torch.where(loop.failed, int(Status.FAILED), status),
        n_steps=loop.n_steps,
        grad_norm=problem.grad_norm(loop.state.iterate, evaluation.gradient),
        initial_value=loop.initial_value,
        trace=loop.trace and replace(loop.trace, actions=problem.bounds.to_actions(loop.trace.actions)),
    )
