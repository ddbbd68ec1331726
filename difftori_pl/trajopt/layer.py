"""The differentiable optimiser as a module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.backward.base import BackwardMode
from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.bounds.in_units import InUnits
from difftori_pl.trajopt.bounds.projection import Projection
from difftori_pl.trajopt.objective import Objective
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.quarantine import is_finite, stand_in
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver
from difftori_pl.trajopt.tree import select


class TrajOptLayer(nn.Module):
    """Maximise an objective over actions, differentiably; each batch element is a problem of its own.

    The layer has no parameters. Those of the objective receive gradients through the solution; their `.grad` is not
    touched by the solve. Under `torch.no_grad()` and `torch.inference_mode()` the same solve runs without a graph.
    An element that meets NaN or infinity fails alone: see `Solution`.

    Args:
        solver: finds the actions.
        backward_mode: decides how the solution is differentiated.
        bounds: keeps actions within limits; None is `Projection(low=-1.0, high=1.0)`.

    Raises:
        ConfigurationError: the solver cannot be differentiated by this backward mode.
    """

    def __init__(self, solver: Solver, backward_mode: BackwardMode, bounds: Bounds | None = None) -> None:
        super().__init__()
        _check_pair(solver, backward_mode)
        self.solver = solver
        self.backward_mode = backward_mode
        self.bounds = Projection() if bounds is None else bounds

    def forward(self, objective: Objective, latent: Tensor, actions: Tensor, unit: Tensor | None = None) -> Solution:
        """Improve `actions` under `objective` and attach the backward mode's gradient.

        Args:
            objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,); larger is better. Tensors it uses
                besides its arguments and parameters must not have been made in inference mode: pass them in `latent`.
            latent: what the objective is conditioned on (B, Z), constant while solving; gradients flow to it.
            actions: initial actions (B, H, A), normalised to [-1, 1]; float16 and bfloat16 are solved in float32.
            unit: what 1 means in each action component (A,), if actions are in other units than the bounds, which
                then hold for `actions * unit`; constant.

        Raises:
            ShapeError: `actions` is not (B, H, A) or not of the latent's batch size, or the objective did not return
                one value per batch element.
            ConfigurationError: the objective does not depend on the actions.
        """
        _check_inputs(latent, actions)
        bounds = self.bounds if unit is None else InUnits(self.bounds, unit)
        if not torch.is_inference_mode_enabled():
            return self._solve(objective, bounds, _trackable(latent), _trackable(actions))
        # The solve itself needs gradients with respect to the actions, which inference mode cannot give.
        with torch.inference_mode(False), torch.no_grad():
            return self._solve(objective, bounds, _trackable(latent), _trackable(actions))

    def extra_repr(self) -> str:
        """Name the parts."""
        return f"solver={self.solver!r}, backward_mode={self.backward_mode!r}, bounds={self.bounds!r}"

    def _solve(self, objective: Objective, bounds: Bounds, latent: Tensor, actions: Tensor) -> Solution:
        if actions.dtype in (torch.float16, torch.bfloat16):
            actions = actions.float()
        problem = Problem(objective, bounds)
        unusable = ~(is_finite(latent) & is_finite(actions))
        solution = self.backward_mode.apply(
            self.solver, problem, stand_in(unusable, latent), stand_in(unusable, actions)
        )
        return select(unusable, _untouched(problem, actions), solution)


def _untouched(problem: Problem, actions: Tensor) -> Solution:
    """Give the failed solution that stays at the initial `actions` (B, H, A)."""
    usable = torch.where(torch.isfinite(actions), actions, 0.0).detach()
    usable = problem.bounds.to_actions(problem.bounds.to_iterate(usable))
    nan = torch.full_like(usable[:, 0, 0], torch.nan)
    steps = torch.zeros_like(nan, dtype=torch.int64)
    return Solution(usable, nan, usable, nan, torch.full_like(steps, int(Status.FAILED)), steps, nan)


def _trackable(tensor: Tensor) -> Tensor:
    """Copy a tensor that was made in inference mode, which autograd would refuse."""
    return tensor.clone() if tensor.is_inference() else tensor


def _check_pair(solver: Solver, backward_mode: BackwardMode) -> None:
    supported = solver.supported_modes
    if supported is None or any(base.__name__ in supported for base in type(backward_mode).__mro__):
        return
    raise ConfigurationError(
        f"{type(solver).__name__} cannot be differentiated by {type(backward_mode).__name__}; "
        f"choose a backward mode among {', '.join(sorted(supported))}, or another solver"
    )


def _check_inputs(latent: Tensor, actions: Tensor) -> None:
    if actions.ndim != 3 or actions.numel() == 0:
        raise ShapeError(
            f"actions must be (batch, horizon, action) with no empty dimension, got {tuple(actions.shape)}; "
            "a single step needs a horizon dimension of 1"
        )
    if latent.ndim < 1 or latent.shape[0] != actions.shape[0]:
        raise ShapeError(
            f"latent and actions must have the same batch size, got latent {tuple(latent.shape)} "
            f"and actions {tuple(actions.shape)}"
        )
    if not actions.is_floating_point():
        raise ConfigurationError(f"actions must be floating point to be optimised, got {actions.dtype}")
