"""The differentiable optimiser as a torch module."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch._C._functorch import peek_interpreter_stack

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.backward.base import BackwardMode
from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.bounds.in_units import InUnits
from difftori_pl.trajopt.bounds.projection import Projection
from difftori_pl.trajopt.objective import Latent, Objective
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.quarantine import all_finite, stand_in
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver, check_not_negative, check_positive
from difftori_pl.trajopt.starts import add_noise, best_starts
from difftori_pl.trajopt.tree import detach, leaves, map_tensors, repeat, select


class TrajOptLayer(nn.Module):
    """Maximise an objective over actions differentiably, separately for each batch element.

    The layer has no parameters. The parameters of the objective receive gradients through the solution; the solve
    leaves their `.grad` unchanged. Under `torch.no_grad()` and `torch.inference_mode()` the same solve runs without a
    graph. NaN or infinity in one element does not affect the others: see `Solution`. Under autocast (mixed precision)
    the solve still runs in float32, because after 100 steps in bfloat16 the gradients are off by 4 %
    (benchmarks/results/reliability.md).

    Args:
        solver: the optimisation method.
        backward_mode: how the solution is differentiated.
        bounds: how actions are kept within limits; None means `Projection(low=-1.0, high=1.0)`.
        n_starts: smallest number of starts per problem. Noisy copies of the first start are added to the given ones.
            All starts are solved in one batch without a graph, and the one with the highest best value is kept. If
            gradients are enabled, it is solved again with a graph.
        start_noise: standard deviation of that noise in units of the actions; drawn from torch's global generator.
        compiled: whether to compile the steps that carry no gradient, and to launch them as a CUDA graph on a GPU:
            all but the last few of `Truncated`, none of `Unroll`, and all of the other modes. Compilation takes tens
            of seconds at the first solve, when the batch size first changes, and for each horizon; docs/trajopt.md
            shows where it pays. Not supported by library solvers, `MPPI` (draws from a generator), `GaussNewton` and
            `NewtonCG` (build their systems from several backward passes).

    Raises:
        ConfigurationError: the backward mode cannot differentiate this solver, or the solver cannot be compiled.
    """

    def __init__(
        self,
        solver: Solver,
        backward_mode: BackwardMode,
        bounds: Bounds | None = None,
        n_starts: int = 1,
        start_noise: float = 0.3,
        compiled: bool = False,
    ) -> None:
        super().__init__()
        reason = backward_mode.excludes(solver)
        if compiled and not solver.compiles:
            reason = f"{type(solver).__name__} cannot be compiled: set compiled to False"
        if reason is not None:
            raise ConfigurationError(reason)
        check_positive(n_starts=n_starts)
        check_not_negative(start_noise=start_noise)
        self.solver = solver
        self.backward_mode = backward_mode
        self.bounds = Projection() if bounds is None else bounds
        self.n_starts = n_starts
        self.start_noise = start_noise
        self.compiled = compiled

    # If an enclosing module is compiled, the layer stays eager and compiles only the steps that it chooses.
    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(
        self,
        objective: Objective,
        latent: Latent,
        actions: Tensor,
        unit: Tensor | None = None,
        trace: bool = False,
    ) -> Solution:
        """Improve `actions` under `objective` and attach the backward mode's gradient.

        Args:
            objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,); larger is better. Pass tensors made
                in inference mode in `latent`: the objective must not use them otherwise.
            latent: what the objective is conditioned on (B, Z), constant during the solve; gradients flow to it. May be
                a dictionary, list, tuple or dataclass of tensors (B, ...); the objective receives the same structure.
            actions: initial actions (B, H, A), or several starts for each element (B, S, H, A), normalised to [-1, 1];
                float16 and bfloat16 are solved in float32.
            unit: size of 1 in each action component (A,), for actions in other units than the bounds: the bounds then
                apply to `actions * unit`. Positive, finite and constant.
            trace: whether to keep every iterate in `Solution.trace`.

        Raises:
            ShapeError: `actions` is not (B, H, A), its batch size is not that of the latent, `unit` is not (A,), or
                the objective did not return one value per batch element.
            ConfigurationError: `actions`, `unit` or the objective's value is not a tensor, `unit` is not positive and
                finite, the objective does not depend on the actions, or a transform of `torch.func` is active.
        """
        _check_inputs(latent, actions)
        device = actions.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                # Calling self(...) would run forward hooks twice.
                return self.forward(objective, map_tensors(_at_least_float32, latent), actions, unit, trace)
        if not torch.is_inference_mode_enabled():
            return self._solve(objective, trace, *map_tensors(_trackable, (latent, actions, unit)))
        # The solve itself needs gradients with respect to the actions, which inference mode cannot give.
        with torch.inference_mode(False), torch.no_grad():
            return self._solve(objective, trace, *map_tensors(_trackable, (latent, actions, unit)))

    @property
    def reach(self) -> float | None:
        """Largest change of an action in one solve, as the solver and the bounds limit it; None without a limit."""
        return min((part.reach for part in (self.solver, self.bounds) if part.reach is not None), default=None)

    def extra_repr(self) -> str:
        """Return the configuration for `repr`."""
        names = "solver", "backward_mode", "bounds", "n_starts"
        return ", ".join(f"{name}={getattr(self, name)!r}" for name in names)

    def _solve(
        self, objective: Objective, trace: bool, latent: Latent, actions: Tensor, unit: Tensor | None
    ) -> Solution:
        actions = _at_least_float32(actions)
        bounds = self.bounds
        if unit is not None:
            bounds = InUnits(bounds, unit.to(actions) if isinstance(unit, Tensor) else unit)
        problem = Problem(objective, bounds, trace, self.compiled)
        starts = add_noise(actions if actions.ndim == 4 else actions.unsqueeze(1), self.n_starts, self.start_noise)
        n_starts = starts.shape[1]
        if n_starts == 1:
            return self._solve_all(problem, latent, starts.squeeze(1))
        if self.solver.joins_starts:
            return self._solve_all(problem, latent, starts)
        with torch.no_grad():
            solutions = self._solve_all(problem, repeat(latent, n_starts), starts.flatten(0, 1))
        best = best_starts(solutions, n_starts)
        if torch.is_grad_enabled():
            solution = self._solve_all(problem, latent, starts.flatten(0, 1).index_select(0, best))
        else:
            solution = map_tensors(lambda tensor: tensor.index_select(0, best), solutions)
        # Measure the value gain from the first start, at which a solve with a single start would begin.
        return replace(solution, initial_value=solutions.initial_value[::n_starts])

    def _solve_all(self, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        # A solver that joins starts leaves out unusable ones itself, except for the first.
        unusable = ~all_finite((latent, actions if actions.ndim == 3 else actions[:, 0]))
        start = stand_in(unusable, actions)
        nearby = replace(problem, bounds=problem.bounds.around(start))
        solution = self.backward_mode.apply(self.solver, nearby, stand_in(unusable, latent), start)
        return select(unusable, _failed_solution(problem, actions, solution), solution)


def _failed_solution(problem: Problem, actions: Tensor, like: Solution) -> Solution:
    """Return a failed solution at the initial `actions` (B, H, A), or at the first start of (B, S, H, A)."""
    actions = actions if actions.ndim == 3 else actions[:, 0]
    finite = torch.where(torch.isfinite(actions), actions, 0.0).detach()
    finite = problem.bounds.to_actions(problem.bounds.to_iterate(finite))
    empty = map_tensors(
        lambda tensor: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else torch.zeros_like(tensor),
        detach(like),
    )
    failed = torch.full_like(like.status, int(Status.FAILED))
    return replace(empty, actions=finite, best_actions=finite, status=failed)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _trackable(tensor: Tensor) -> Tensor:
    """Copy a tensor made in inference mode, because autograd does not accept it."""
    return tensor.clone() if tensor.is_inference() else tensor


def _check_inputs(latent: Latent, actions: Tensor) -> None:
    if peek_interpreter_stack() is not None:
        raise ConfigurationError(
            "TrajOptLayer cannot run inside torch.vmap or a transform of torch.func, such as grad or jacrev: pass the "
            "whole batch in one call instead of vmap, and use torch.autograd.grad or torch.autograd.functional "
            "instead of torch.func"
        )
    if not isinstance(actions, Tensor):
        raise ConfigurationError(
            f"actions must be a tensor, got {type(actions).__name__}; pass torch.as_tensor(actions)"
        )
    if actions.ndim not in (3, 4) or actions.numel() == 0:
        raise ShapeError(
            "actions must be (batch, horizon, action), or (batch, start, horizon, action) for several starts, without "
            f"empty dimensions, got {tuple(actions.shape)}; for a single step use a horizon of 1"
        )
    for tensor in leaves(latent):
        if tensor.ndim < 1 or tensor.shape[0] != actions.shape[0]:
            raise ShapeError(
                f"latent and actions must have the same batch size, got latent {tuple(tensor.shape)} "
                f"and actions {tuple(actions.shape)}"
            )
    if not actions.is_floating_point():
        raise ConfigurationError(f"actions must be floating point to be optimised, got {actions.dtype}")
