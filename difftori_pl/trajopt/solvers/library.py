"""Solvers whose loop belongs to a library."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import Solver

if TYPE_CHECKING:
    from difftori_pl.trajopt.search import Search


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
