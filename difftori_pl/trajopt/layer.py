"""The differentiable optimiser as a module."""

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
    """Maximise an objective over actions, differentiably; each batch element is a problem of its own.

    The layer has no parameters. Those of the objective receive gradients through the solution; their `.grad` is not
    touched by the solve. Under `torch.no_grad()` and `torch.inference_mode()` the same solve runs without a graph.
    An element that meets NaN or infinity fails alone: see `Solution`. Under autocast (mixed precision) the solve is in
    float32 all the same: after 100 steps in bfloat16 its gradients are off by 4 % (benchmarks/results/reliability.md).

    Args:
        solver: finds the actions.
        backward_mode: decides how the solution is differentiated.
        bounds: keeps actions within limits; None is `Projection(low=-1.0, high=1.0)`.
        n_starts: least number of starts of each problem: those given, and noisy copies of the first of them. All are
            solved in one batch without a graph. The one with the highest best value is kept; if gradients are enabled,
            it is solved again, with the graph of a single start.
        start_noise: standard deviation of that noise, in units of the actions; drawn from torch's global generator.
        compiled: whether the steps that carry no gradient are compiled, and on a GPU launched as a CUDA graph: all
            but the last few of `Truncated`, none of `Unroll`, and all of the other modes. Costs tens of seconds at the
            first solve, when the batch size first changes, and for each horizon; see docs/trajopt.md for where it
            pays. Not for a solver whose loop is a library's, nor for `MPPI`, which draws from a generator, nor for
            `GaussNewton` and `NewtonCG`, whose systems are put together from several backward passes.

    Raises:
        ConfigurationError: the solver cannot be differentiated by this backward mode.
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

    # Where a module around it is compiled, the layer still decides for itself which steps are.
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
            objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,); larger is better. Tensors it uses
                besides its arguments and parameters must not have been made in inference mode: pass them in `latent`.
            latent: what the objective is conditioned on (B, Z), constant while solving; gradients flow to it. May be a
                dictionary, list, tuple or dataclass of tensors (B, ...), which the objective is given as it is.
            actions: initial actions (B, H, A), or several starts for each element (B, S, H, A), normalised to [-1, 1];
                float16 and bfloat16 are solved in float32.
            unit: size of 1 in each action component (A,), if actions are in other units than the bounds, which then
                hold for `actions * unit`; positive, finite and constant.
            trace: whether to keep every iterate in `Solution.trace`.

        Raises:
            ShapeError: `actions` is not (B, H, A) or not of the latent's batch size, `unit` is not (A,), or the
                objective did not return one value per batch element.
            ConfigurationError: `actions`, `unit` or what the objective returned is not a tensor, `unit` is not positive
                and finite, the objective does not depend on the actions, or a transform of `torch.func` is active.
        """
        _check_inputs(latent, actions)
        device = actions.device.type
        if torch.is_autocast_enabled(device):
            with torch.autocast(device, enabled=False):
                # Not self(...), which would run forward hooks twice.
                return self.forward(objective, map_tensors(_at_least_float32, latent), actions, unit, trace)
        if not torch.is_inference_mode_enabled():
            return self._solve(objective, trace, *map_tensors(_trackable, (latent, actions, unit)))
        # The solve itself needs gradients with respect to the actions, which inference mode cannot give.
        with torch.inference_mode(False), torch.no_grad():
            return self._solve(objective, trace, *map_tensors(_trackable, (latent, actions, unit)))

    def extra_repr(self) -> str:
        """Name the parts."""
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
        # The gain counts from the first start, from which the layer would have started without the others.
        return replace(solution, initial_value=solutions.initial_value[::n_starts])

    def _solve_all(self, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        # Where several starts are searched together, one that is unusable is the solver's to leave out.
        unusable = ~all_finite((latent, actions if actions.ndim == 3 else actions[:, 0]))
        solution = self.backward_mode.apply(
            self.solver, problem, stand_in(unusable, latent), stand_in(unusable, actions)
        )
        return select(unusable, _untouched(problem, actions, solution), solution)


def _untouched(problem: Problem, actions: Tensor, like: Solution) -> Solution:
    """Give the failed solution that stays at the initial `actions` (B, H, A), or at the first of (B, S, H, A)."""
    actions = actions if actions.ndim == 3 else actions[:, 0]
    usable = torch.where(torch.isfinite(actions), actions, 0.0).detach()
    usable = problem.bounds.to_actions(problem.bounds.to_iterate(usable))
    nothing = map_tensors(
        lambda tensor: torch.full_like(tensor, torch.nan) if tensor.is_floating_point() else torch.zeros_like(tensor),
        detach(like),
    )
    failed = torch.full_like(like.status, int(Status.FAILED))
    return replace(nothing, actions=usable, best_actions=usable, status=failed)


def _at_least_float32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def _trackable(tensor: Tensor) -> Tensor:
    """Copy a tensor that was made in inference mode, which autograd would refuse."""
    return tensor.clone() if tensor.is_inference() else tensor


def _check_inputs(latent: Latent, actions: Tensor) -> None:
    if peek_interpreter_stack() is not None:
        raise ConfigurationError(
            "TrajOptLayer cannot run inside torch.vmap or a transform of torch.func, such as grad or jacrev: pass the "
            "whole batch in one call in place of vmap, and use torch.autograd.grad or torch.autograd.functional in "
            "place of torch.func"
        )
    if not isinstance(actions, Tensor):
        raise ConfigurationError(
            f"actions must be a tensor, got {type(actions).__name__}; pass torch.as_tensor(actions)"
        )
    if actions.ndim not in (3, 4) or actions.numel() == 0:
        raise ShapeError(
            "actions must be (batch, horizon, action), or (batch, start, horizon, action) for several starts, with no "
            f"empty dimension, got {tuple(actions.shape)}; a single step needs a horizon dimension of 1"
        )
    for tensor in leaves(latent):
        if tensor.ndim < 1 or tensor.shape[0] != actions.shape[0]:
            raise ShapeError(
                f"latent and actions must have the same batch size, got latent {tuple(tensor.shape)} "
                f"and actions {tuple(actions.shape)}"
            )
    if not actions.is_floating_point():
        raise ConfigurationError(f"actions must be floating point to be optimised, got {actions.dtype}")
