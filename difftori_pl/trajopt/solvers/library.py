"""Base class of solvers that a library implements."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import Solver

if TYPE_CHECKING:
    from difftori_pl.trajopt.loop_state import LoopState


class LibrarySolver(Solver):
    """A solver whose loop and backward pass run in a library.

    Attributes:
        own_modes: names of the library's backward modes, for `LibraryMode`.
    """

    compiles = False
    own_modes: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def solve(
        self, problem: Problem, latent: Latent, iterate: Tensor, n_differentiated: int, own_mode: str | None = None
    ) -> LoopState:
        """Run the library's loop.

        Args:
            problem: the problem to maximise.
            latent: input of the objective (B, Z).
            iterate: initial iterate (B, H, A).
            n_differentiated: number of last steps through which the result is differentiated.
            own_mode: the library's backward mode that differentiates the result instead; None for no such mode.
        """
