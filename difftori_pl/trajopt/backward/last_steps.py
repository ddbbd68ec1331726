"""The family of modes that differentiate the last steps of the loop: all of them, some, or none."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.backward.base import BackwardMode, conclude
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.quarantine import stand_in
from difftori_pl.trajopt.search import Search, advance, begin, resume
from difftori_pl.trajopt.solution import Solution
from difftori_pl.trajopt.solvers.base import Solver, StepSolver
from difftori_pl.trajopt.solvers.library import LibrarySolver
from difftori_pl.trajopt.tree import Record, detach, select


class LastSteps(BackwardMode):
    """Take the first steps without a graph and differentiate through the rest.

    Attributes:
        recompute: whether the activations of differentiated steps are computed again in the backward pass.
    """

    recompute: bool = False

    @abstractmethod
    def n_differentiated(self, max_steps: int) -> int:
        """Give how many of a solver's `max_steps` steps, counted from the last, are differentiated."""

    def excludes(self, solver: Solver) -> str | None:
        """Refuse a solver whose steps cannot be differentiated, unless none is."""
        if solver.steps_differentiable or self.n_differentiated(solver.max_steps) == 0:
            return None
        return self._refusal(
            solver, "its steps pass no gradient; choose a mode that differentiates the solution, or none (Detached)"
        )

    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve and attach the gradient of the last steps."""
        iterate = problem.bounds.to_iterate(actions)
        n_attached = self.n_differentiated(solver.max_steps) if torch.is_grad_enabled() else 0
        return conclude(solver, problem, run(solver, problem, latent, iterate, n_attached, self.recompute))


def run(
    solver: Solver,
    problem: Problem,
    latent: Latent,
    iterate: Tensor,
    n_attached: int,
    recompute: bool = False,
    rest_when_done: bool = True,
) -> Search:
    """Take the steps of a solver from `iterate` (B, H, A), the last `n_attached` of each element with a graph.

    Without a graph, `rest_when_done=False` takes all `max_steps` and ignores the solver's tolerance.
    """
    if isinstance(solver, LibrarySolver):
        return solver.solve(problem, latent, iterate, n_attached)
    if not isinstance(solver, StepSolver):
        raise ConfigurationError(f"{type(solver).__name__} must derive from StepSolver or LibrarySolver")
    if n_attached == solver.max_steps:
        return _all_steps(solver, problem, latent, iterate, recompute)
    with torch.no_grad():
        start = begin(solver, problem, latent, iterate)
    if n_attached > 0:
        return _last_steps(solver, problem, latent, start, n_attached)
    with torch.no_grad():
        return advance(solver, problem, latent, start, solver.max_steps, rest_when_done)


def _all_steps(solver: StepSolver, problem: Problem, latent: Latent, iterate: Tensor, recompute: bool) -> Search:
    def attempt(latent: Latent, iterate: Tensor) -> Search:
        search = begin(solver, problem, latent, iterate)
        if not recompute:
            return advance(solver, problem, latent, search, solver.max_steps)
        for _ in range(solver.max_steps):
            # Several steps at once would be computed again for each gradient that is taken inside of them.
            search = checkpoint(advance, solver, problem, latent, search, 1, use_reentrant=False)
        return search

    return _isolated(attempt, latent, iterate, torch.zeros_like(iterate[:, 0, 0], dtype=torch.bool))


def _last_steps(solver: StepSolver, problem: Problem, latent: Latent, start: Search, n_attached: int) -> Search:
    def attempt(latent: Latent, search: Search) -> Search:
        return advance(solver, problem, latent, resume(problem, latent, search), n_attached)

    def differentiate_from(first: Tensor) -> Search:
        with torch.no_grad():
            search = replace(start, limit=first)
            search = advance(solver, problem, latent, search, solver.max_steps - n_attached)
        return _isolated(attempt, latent, replace(search, limit=start.limit), search.failed)

    outcome = differentiate_from(start.limit - n_attached)
    n_steps, early = outcome.n_steps, (outcome.n_steps < solver.max_steps) & ~outcome.failed
    if not early.any():
        return outcome
    # An element that came to rest early took its last steps earlier too.
    del outcome
    return differentiate_from((n_steps - n_attached).clamp(min=0))


def _isolated(attempt: Callable[[Tensor, Record], Search], latent: Latent, start: Record, failed: Tensor) -> Search:
    """Make an attempt at differentiated steps whose graph holds healthy elements only.

    The graph of an attempt during which an element fails is of use to none of them, so the attempt is repeated with a
    stand-in for that element, which keeps what it had reached. Without failures this costs one read on the host.

    Args:
        attempt: takes the steps, given a latent (B, Z) and a start.
        latent: what the objective is conditioned on (B, Z).
        start: a search to continue, or the first iterate (B, H, A).
        failed: elements (B,) that failed before the start.
    """
    outcome = attempt(stand_in(failed, latent), stand_in(failed, start))
    reached = detach(start if isinstance(start, Search) else outcome)
    while True:
        newly_failed = outcome.failed & ~failed
        reached = select(newly_failed, detach(outcome), reached)
        failed = failed | newly_failed
        any_new, none_left = torch.stack((newly_failed.any(), failed.all())).tolist()
        if none_left:
            return reached.without_gradient(anchor=outcome.state.evaluation.value)
        if not any_new:
            return select(failed, reached, outcome)
        outcome = attempt(stand_in(failed, latent), stand_in(failed, start))
