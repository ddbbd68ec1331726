"""What every solver offers: the maths of one step over explicit state. The backward mode runs the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.part import Part
from difftori_pl.trajopt.problem import Evaluation, Problem
from difftori_pl.trajopt.quarantine import is_finite


@dataclass(frozen=True)
class SolverState:
    """Everything a solver knows, batch first; a solver with a memory adds tensors (B, ...) in a subclass.

    Attributes:
        iterate: where the solver is (B, H, A).
        evaluation: the objective there.
    """

    iterate: Tensor
    evaluation: Evaluation

    def is_finite(self) -> Tensor:
        """Mark the elements (B,) whose iterate, value and gradient hold neither NaN nor infinity."""
        return is_finite(self.iterate) & is_finite(self.evaluation.value) & is_finite(self.evaluation.gradient)

    def best(self) -> tuple[Tensor, Tensor]:
        """Give the best iterate (B, H, A) that was evaluated to get here, and its value (B,)."""
        return self.iterate, self.evaluation.value


class Solver(Part, ABC):
    """A method to maximise a problem, for each batch element on its own.

    The type that configurations name; implementations derive from `StepSolver` or `LibrarySolver`.

    Attributes:
        max_steps: number of steps of a full solve.
        grad_tolerance: an element whose gradient norm is below this is done; 0 never stops early.
        steps_differentiable: whether autograd can differentiate a step, so that a backward mode can unroll it.
        reaches_maximum: whether a solve ends where the free components have no slope, which a mode that differentiates
            the solution relies on.
        tiltable: whether a solve sees a linear term that is added to the objective's value.
        joins_starts: whether the solver makes one search of all starts of an element, which it then gets at once,
            (B, S, H, A); otherwise each start is solved on its own.
        compiles: whether a step can be compiled as a whole.
    """

    max_steps: int
    grad_tolerance: float = 0.0
    steps_differentiable: ClassVar[bool] = True
    reaches_maximum: ClassVar[bool] = True
    tiltable: ClassVar[bool] = True
    joins_starts: ClassVar[bool] = False
    compiles: ClassVar[bool] = True

    def done(self, state: SolverState) -> Tensor:
        """Mark the elements (B,) that need no further step."""
        return state.evaluation.grad_norm < self.grad_tolerance


class StepSolver(Solver):
    """A solver that gives its steps, and leaves the loop to the backward mode."""

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> SolverState:
        """Give the state at the first `iterate` (B, H, A); (B, S, H, A) if the solver `joins_starts`."""
        return SolverState(iterate, problem.evaluate(latent, iterate))

    @abstractmethod
    def step(self, problem: Problem, latent: Latent, state: SolverState) -> SolverState:
        """Take one step with every element, and evaluate where it leads.

        Neither failed nor finished elements need attention here: the loop discards their steps.
        """


def check_positive(**arguments: float) -> None:
    """Refuse constructor arguments that are not above zero.

    Raises:
        ConfigurationError: names the argument and its value.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ConfigurationError(f"{name} must be above 0, got {value}")


def check_not_negative(**arguments: float) -> None:
    """Refuse constructor arguments below zero.

    Raises:
        ConfigurationError: names the argument and its value.
    """
    for name, value in arguments.items():
        if not value >= 0:
            raise ConfigurationError(f"{name} must be 0 or above, got {value}")
