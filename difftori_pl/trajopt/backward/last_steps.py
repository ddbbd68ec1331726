"""Base class of modes that differentiate the last steps of the loop: all of them, some, or none."""

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.backward.base import BackwardMode, conclude
from difftori_pl.trajopt.loop_state import LoopState, advance, begin, resume
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.quarantine import stand_in
from difftori_pl.trajopt.solution import Solution
from difftori_pl.trajopt.solvers.base import Solver, StepSolver
from difftori_pl.trajopt.solvers.library import LibrarySolver
from difftori_pl.trajopt.tree import Record, detach, select


class LastSteps(BackwardMode):
    """Take the first steps without a graph and differentiate through the rest.

    Attributes:
        recompute: whether to recompute the activations of differentiated steps in the backward pass.
    """

    recompute: bool = False

    @abstractmethod
    def n_differentiated(self, max_steps: int) -> int:
        """Return how many of the last steps of a solver with `max_steps` are differentiated."""

    def excludes(self, solver: Solver) -> str | None:
        """Exclude solvers whose steps cannot be differentiated, unless no step is."""
        if solver.steps_differentiable or self.n_differentiated(solver.max_steps) == 0:
            return None
        reason = "its steps pass no gradient; choose a mode that differentiates the solution (Implicit), or Detached"
        return self._refusal(solver, reason)

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
) -> LoopState:
    """Run a solver from `iterate` (B, H, A), with a graph for the last `n_attached` steps of each element.

    For `n_attached=0`, `rest_when_done=False` takes all `max_steps` and ignores the solver's tolerance.
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


def _all_steps(solver: StepSolver, problem: Problem, latent: Latent, iterate: Tensor, recompute: bool) -> LoopState:
    def attempt(latent: Latent, iterate: Tensor) -> LoopState:
        loop = begin(solver, problem, latent, iterate)
        if not recompute:
            return advance(solver, problem, latent, loop, solver.max_steps)
        for _ in range(solver.max_steps):
            # One step per checkpoint: a longer segment would be recomputed for each gradient taken inside it.
            loop = checkpoint(advance, solver, problem, latent, loop, 1, use_reentrant=False)
        return loop

    return _isolated(attempt, latent, iterate, torch.zeros_like(iterate[:, 0, 0], dtype=torch.bool))


def _last_steps(solver: StepSolver, problem: Problem, latent: Latent, start: LoopState, n_attached: int) -> LoopState:
    def attempt(latent: Latent, loop: LoopState) -> LoopState:
        return advance(solver, problem, latent, resume(problem, latent, loop), n_attached)

    def differentiate_from(first: Tensor) -> LoopState:
        with torch.no_grad():
            loop = replace(start, limit=first)
            loop = advance(solver, problem, latent, loop, solver.max_steps - n_attached)
        return _isolated(attempt, latent, replace(loop, limit=start.limit), loop.failed)

    outcome = differentiate_from(start.limit - n_attached)
    if not solver.stops_early:
        return outcome
    n_steps, early = outcome.n_steps, (outcome.n_steps < solver.max_steps) & ~outcome.failed
    if not early.any():
        return outcome
    # The last steps of an element that stopped early lie earlier: solve again and attach the graph there.
    del outcome
    return differentiate_from((n_steps - n_attached).clamp(min=0))


def _isolated(
    attempt: Callable[[Tensor, Record], LoopState], latent: Latent, start: Record, failed: Tensor
) -> LoopState:
    """Take differentiated steps with a graph that contains healthy elements only.

    A failed element makes the graph of the whole batch unusable. The steps are therefore repeated with a stand-in for
    it, and the element keeps its last finite result. Without failures this costs one read on the host.

    Args:
        attempt: takes the steps from a latent (B, Z) and a start.
        latent: input of the objective (B, Z).
        start: a loop state to continue, or the first iterate (B, H, A).
        failed: elements (B,) that failed before the start.
    """
    outcome = attempt(stand_in(failed, latent), stand_in(failed, start))
    reached = detach(start if isinstance(start, LoopState) else outcome)
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
