"""What every solver offers: the maths of one step over explicit state. The backward mode runs the loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.part import Part
from difftori_pl.trajopt.problem import Evaluation, Problem
from difftori_pl.trajopt.quarantine import is_finite

if TYPE_CHECKING:
    from difftori_pl.trajopt.search import Search


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
        supported_modes: class names of the backward modes that can differentiate this solver (names, because solvers
            do not know backward modes); None for every mode.
        joins_starts: whether the solver makes one search of all starts of an element, which it then gets at once,
            (B, S, H, A); otherwise each start is solved on its own.
        compiles: whether a step can be compiled as a whole.
    """

    max_steps: int
    grad_tolerance: float = 0.0
    supported_modes: ClassVar[frozenset[str] | None] = None
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


class LibrarySolver(Solver):
    """A solver whose loop and backward pass belong to a library; it lists the modes it supports.

    Attributes:
        own_modes: names of the library's own backward modes, for `LibraryMode`.
    """

    compiles = False
    own_modes: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def solve(
        self, problem: Problem, latent: Latent, iterate: Tensor, n_differentiated: int, own_mode: str | None = None
    ) -> Search:
        """Run the library's loop.

        Args:
            problem: what to maximise.
            latent: what the objective is conditioned on (B, Z).
            iterate: where to start (B, H, A).
            n_differentiated: how many of the last steps the result's gradient goes back through.
            own_mode: differentiates the result by this mode of the library instead.
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
