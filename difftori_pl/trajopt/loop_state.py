"""The solver loop over a batch: track the best iterate, the number of steps and the failure of each element."""

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
from difftori_pl.trajopt.tree import Record, map_tensors, per_element, select


@dataclass(frozen=True)
class LoopState:
    """State of a running solve, batch first.

    Attributes:
        state: the solver's state at the last finite iterate of each element.
        best_iterate: the iterate with the highest value, the earliest in a tie (B, H, A); detached.
        best_value: the objective at `best_iterate` (B,); detached.
        failed: elements that met NaN or infinity (B,), boolean; they take no further steps.
        n_steps: steps taken by each element (B,), int64.
        limit: steps that each element may take (B,), int64.
        initial_value: the value at the first iterate (B,); detached.
        initial_grad_norm: the gradient norm at the first iterate (B,); detached.
        trace: every iterate, if the problem is traced.
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

    def without_gradient(self, anchor: Tensor) -> LoopState:
        """Attach iterate and value to the graph of `anchor`, so that `backward()` runs but passes no gradient."""
        evaluation = replace(self.state.evaluation, value=sever(self.state.evaluation.value, anchor))
        return replace(
            self, state=replace(self.state, iterate=sever(self.state.iterate, anchor), evaluation=evaluation)
        )


def begin(solver: StepSolver, problem: Problem, latent: Latent, iterate: Tensor) -> LoopState:
    """Start a solve of `problem` at `iterate` (B, H, A)."""
    state = solver.init(problem, latent, iterate)
    value = state.evaluation.value.detach()
    n_steps = torch.zeros_like(value, dtype=torch.int64)
    trace = None
    if problem.traced:
        trace = Trace.empty(state.iterate.detach(), solver.max_steps).record(n_steps, state.iterate, value)
    return LoopState(
        state=state,
        best_iterate=state.iterate.detach(),
        best_value=value,
        failed=~state.is_finite(),
        n_steps=n_steps,
        limit=torch.full_like(n_steps, solver.max_steps),
        initial_value=value,
        initial_grad_norm=problem.grad_norm(state.iterate, state.evaluation.gradient),
        trace=trace,
    )


def resume(problem: Problem, latent: Latent, loop: LoopState) -> LoopState:
    """Evaluate the current iterate with a graph, so that autograd can differentiate the following steps."""
    state = replace(loop.state, evaluation=problem.evaluate(latent, loop.state.iterate))
    return replace(loop, state=state, failed=loop.failed | ~state.is_finite())


def advance(
    solver: StepSolver, problem: Problem, latent: Latent, loop: LoopState, n_steps: int, rest_when_done: bool = True
) -> LoopState:
    """Take up to `n_steps` steps with every element that has not failed.

    The number of evaluations is fixed and no value is read on the host: the steps of resting elements are computed and
    discarded. Where elements rest only because they failed, best iterates and failures are found after the last step
    (`_take_all`), which saves two dozen kernels per step.

    Args:
        solver: computes the steps.
        problem: the problem to maximise.
        latent: input of the objective (B, Z).
        loop: the state to start from.
        n_steps: number of steps.
        rest_when_done: whether elements for which `solver.done` holds stop moving.
    """
    # Steps with a graph are not compiled: compiling their backward pass took minutes and made it no faster.
    if not problem.compiled or torch.is_grad_enabled():
        if not (problem.traced or (rest_when_done and solver.stops_early)):
            return _take_all(solver, problem, latent, loop, n_steps)
        for _ in range(n_steps):
            loop = _take_step(solver, problem, latent, loop, rest_when_done)
        return loop
    # Tensors that share memory, require gradients or have different strides would trigger recompilation.
    latent, loop = map_tensors(_detached_copy, (latent, loop))
    iterate = loop.best_iterate
    take_step = compiled(_take_step, (solver, iterate.shape[1:], iterate.dtype, iterate.device), iterate.is_cuda)
    if iterate.is_cuda:
        torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
    for _ in range(n_steps):
        loop = take_step(solver, problem, latent, loop, rest_when_done)
    return map_tensors(torch.clone, loop) if iterate.is_cuda else loop


def _take_all(solver: StepSolver, problem: Problem, latent: Latent, loop: LoopState, n_steps: int) -> LoopState:
    """Take all steps, then find failures and best iterates; a failed element returns to its last finite iterate."""
    states = [loop.state]
    for _ in range(n_steps):
        states.append(solver.step(problem, latent, states[-1]))
    # One record of all states, with those of an element next to one another.
    path = map_tensors(lambda *tensors: torch.stack([tensor.detach() for tensor in tensors], 1).flatten(0, 1), *states)
    first_rows = (n_steps + 1) * torch.arange(len(loop.failed), device=loop.failed.device)

    def pick(record: Record, step: Tensor) -> Record:
        return map_tensors(lambda tensor: tensor.index_select(0, first_rows + step), record)

    finite = path.is_finite().view(-1, n_steps + 1) & ~loop.failed.unsqueeze(1)
    taken = ((~finite).cumsum(dim=1) == 0)[:, 1:]
    n_taken = taken.sum(dim=1)
    failed = loop.failed | (n_taken < n_steps)
    iterates, values = path.best()
    values = torch.where(taken, values.view(-1, n_steps + 1)[:, 1:], -torch.inf)
    best_value, best_step = torch.cat((loop.best_value.unsqueeze(1), values), dim=1).max(dim=1)
    earlier = per_element(best_step == 0, iterates)
    return replace(
        loop,
        state=select(failed, pick(path, n_taken), states[-1]),
        best_iterate=torch.where(earlier, loop.best_iterate, pick(iterates, best_step)),
        best_value=best_value,
        failed=failed,
        n_steps=loop.n_steps + n_taken,
    )


def _detached_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone(memory_format=torch.contiguous_format)


def _take_step(
    solver: StepSolver, problem: Problem, latent: Latent, loop: LoopState, rest_when_done: bool
) -> LoopState:
    resting = loop.failed | (loop.n_steps >= loop.limit)
    if rest_when_done and solver.stops_early:
        resting = resting | solver.done(problem, loop.state)
    if torch.is_grad_enabled():
        # Evaluate resting elements at their current iterate, not after the discarded step. A NaN there would reach the
        # parameters' gradients even though the loss gradient is zero, because 0 · NaN = NaN.
        problem = replace(problem, resting=(resting, loop.state.iterate))
    candidate = solver.step(problem, latent, loop.state)
    failed = loop.failed | ~(candidate.is_finite() | resting)
    resting = resting | failed
    iterate, value = (tensor.detach() for tensor in candidate.best())
    improved = (value > loop.best_value) & ~resting
    state, n_taken = select(resting, loop.state, candidate), loop.n_steps + ~resting
    return replace(
        loop,
        state=state,
        best_iterate=torch.where(per_element(improved, iterate), iterate, loop.best_iterate),
        best_value=torch.where(improved, value, loop.best_value),
        failed=failed,
        n_steps=n_taken,
        trace=None if loop.trace is None else loop.trace.record(n_taken, state.iterate, state.evaluation.value),
    )
