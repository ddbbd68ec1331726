"""Base classes of solvers: a solver computes one step from explicit state, and the backward mode runs the loop."""

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
    """Complete state of a solver, batch first; a solver with a memory adds tensors (B, ...) in a subclass.

    Attributes:
        iterate: the current iterate (B, H, A).
        evaluation: the objective at the iterate.
    """

    iterate: Tensor
    evaluation: Evaluation

    def is_finite(self) -> Tensor:
        """Mark the elements (B,) whose iterate, value and gradient hold neither NaN nor infinity."""
        return is_finite(self.iterate) & is_finite(self.evaluation.value) & is_finite(self.evaluation.gradient)

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the best iterate (B, H, A) evaluated in the last step, and its value (B,)."""
        return self.iterate, self.evaluation.value


class Solver(Part, ABC):
    """A method to maximise a problem, separately for each batch element.

    Use this type in signatures and configurations; implementations derive from `StepSolver` or `LibrarySolver`.

    Attributes:
        max_steps: number of steps of a full solve.
        grad_tolerance: an element stops when its gradient norm is below this value; 0 disables the test.
        steps_differentiable: whether autograd can differentiate a step, so that a backward mode can unroll it.
        reaches_maximum: whether a converged solve ends with a zero gradient of the free components, as modes that
            differentiate the solution require.
        tiltable: whether a solve takes account of a linear term added to the objective's value.
        joins_starts: whether the solver combines all starts of an element (B, S, H, A) in one solve; otherwise each
            start is solved separately.
        compiles: whether a step can be compiled as a whole.
    """

    max_steps: int
    grad_tolerance: float = 0.0
    steps_differentiable: ClassVar[bool] = True
    reaches_maximum: ClassVar[bool] = True
    tiltable: ClassVar[bool] = True
    joins_starts: ClassVar[bool] = False
    compiles: ClassVar[bool] = True

    @property
    def reach(self) -> float | None:
        """Largest distance that a solve moves an action, in the unit of the actions; None if there is no limit."""
        return None

    @property
    def stops_early(self) -> bool:
        """Whether `done` can hold before all steps are taken."""
        return self.grad_tolerance > 0 or type(self).done is not Solver.done

    def done(self, problem: Problem, state: SolverState) -> Tensor:
        """Mark the elements (B,) that need no further steps."""
        return problem.grad_norm(state.iterate, state.evaluation.gradient) < self.grad_tolerance


class StepSolver(Solver):
    """A solver that computes single steps; the backward mode runs the loop."""

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> SolverState:
        """Return the state at the first `iterate` (B, H, A), or (B, S, H, A) if the solver `joins_starts`."""
        return SolverState(iterate, problem.evaluate(latent, iterate))

    @abstractmethod
    def step(self, problem: Problem, latent: Latent, state: SolverState) -> SolverState:
        """Take one step with every element and evaluate the new iterate.

        Failed and finished elements need no special treatment: the loop discards their steps.
        """


def check_positive(**arguments: float) -> None:
    """Check that constructor arguments are above zero.

    Raises:
        ConfigurationError: an argument is not above zero.
    """
    for name, value in arguments.items():
        if not value > 0:
            raise ConfigurationError(f"{name} must be above 0, got {value}")


def check_not_negative(**arguments: float) -> None:
    """Check that constructor arguments are not negative.

    Raises:
        ConfigurationError: an argument is below zero.
    """
    for name, value in arguments.items():
        if not value >= 0:
            raise ConfigurationError(f"{name} must be 0 or above, got {value}")
