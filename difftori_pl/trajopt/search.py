"""Run a solver's steps on a batch: which elements move, which failed, and the best iterate of each."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from difftori_pl.trajopt.compilation import compiled
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.quarantine import sever
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver
from difftori_pl.trajopt.trace import Trace
from difftori_pl.trajopt.tree import map_tensors, per_element, select


@dataclass(frozen=True)
class Search:
    """A solve under way, batch first.

    Attributes:
        state: the solver's state at the last good iterate of each element.
        best_iterate: the iterate with the highest value, the earliest of equals (B, H, A), detached.
        best_value: its value (B,), detached.
        failed: elements that met NaN or infinity (B,), boolean; they do not move any more.
        n_steps: steps each element has taken (B,), int64.
        limit: steps each element may take (B,), int64.
        initial_value: the value at the first iterate (B,), detached.
        initial_grad_norm: the gradient norm at the first iterate (B,), detached.
        trace: every iterate, if the problem asks for it.
    """

    state: SolverState
    best_iterate: Tensor
    best_value: Tensor
    failed: Tensor
    n_steps: Tensor
    limit: Tensor
    initial_value: Tensor
    initial_grad_norm: Tensor
    trace: Trace | None = None

    def without_gradient(self, anchor: Tensor) -> Search:
        """Attach iterate and value to the graph of `anchor` such that `backward()` runs and changes nothing."""
        evaluation = replace(self.state.evaluation, value=sever(self.state.evaluation.value, anchor))
        return replace(
            self, state=replace(self.state, iterate=sever(self.state.iterate, anchor), evaluation=evaluation)
        )


def begin(solver: StepSolver, problem: Problem, latent: Latent, iterate: Tensor) -> Search:
    """Start a solve of `problem` at `iterate` (B, H, A)."""
    state = solver.init(problem, latent, iterate)
    value = state.evaluation.value.detach()
    n_steps = torch.zeros_like(value, dtype=torch.int64)
    trace = (
        Trace.empty(state.iterate.detach(), solver.max_steps).record(n_steps, state.iterate, value)
        if problem.traced
        else None
    )
    return Search(
        state=state,
        best_iterate=state.iterate.detach(),
        best_value=value,
        failed=~state.is_finite(),
        n_steps=n_steps,
        limit=torch.full_like(n_steps, solver.max_steps),
        initial_value=value,
        initial_grad_norm=state.evaluation.grad_norm,
        trace=trace,
    )


def resume(problem: Problem, latent: Latent, search: Search) -> Search:
    """Evaluate the current iterate with a graph, so that the following steps are differentiated."""
    state = replace(search.state, evaluation=problem.evaluate(latent, search.state.iterate))
    return replace(search, state=state, failed=search.failed | ~state.is_finite())


def advance(
    solver: StepSolver, problem: Problem, latent: Latent, search: Search, n_steps: int, rest_when_done: bool = True
) -> Search:
    """Take up to `n_steps` steps with every element that has not failed.

    The number of evaluations is fixed, and no value is read on the host: steps of resting elements are discarded.

    Args:
        solver: gives the steps.
        problem: what to maximise.
        latent: what the objective is conditioned on (B, Z).
        search: the search to continue.
        n_steps: number of steps.
        rest_when_done: whether elements that the solver calls done stay where they are.
    """
    # Compiling the backward pass too took minutes where it was tried, and was no faster.
    if not problem.compiled or torch.is_grad_enabled():
        for _ in range(n_steps):
            search = _take_step(solver, problem, latent, search, rest_when_done)
        return search
    # Torch compiles anew for tensors that share memory, carry a gradient or lie otherwise than those it has seen.
    latent, search = map_tensors(_plain, (latent, search))
    iterate = search.best_iterate
    take_step = compiled(_take_step, (solver, iterate.shape[1:], iterate.dtype, iterate.device), iterate.is_cuda)
    if iterate.is_cuda:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    for _ in range(n_steps):
        search = take_step(solver, problem, latent, search, rest_when_done)
    return map_tensors(torch.clone, search) if iterate.is_cuda else search


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _take_step(solver: StepSolver, problem: Problem, latent: Latent, search: Search, rest_when_done: bool) -> Search:
    stays = search.failed | (search.n_steps >= search.limit)
    if rest_when_done:
        stays = stays | solver.done(search.state)
    if torch.is_grad_enabled():
        # A discarded step must not be evaluated: its zero gradient would meet NaN or infinity there, and 0 · NaN = NaN.
        problem = replace(problem, resting=(stays, search.state.iterate))
    candidate = solver.step(problem, latent, search.state)
    failed = search.failed | ~(candidate.is_finite() | stays)
    stays = stays | failed
    iterate, value = (tensor.detach() for tensor in candidate.best())
    improved = (value > search.best_value) & ~stays
    state, n_taken = select(stays, search.state, candidate), search.n_steps + ~stays
    return replace(
        search,
        state=state,
        best_iterate=torch.where(per_element(improved, iterate), iterate, search.best_iterate),
        best_value=torch.where(improved, value, search.best_value),
        failed=failed,
        n_steps=n_taken,
        trace=None if search.trace is None else search.trace.record(n_taken, state.iterate, state.evaluation.value),
    )
