"""One call of Theseus' own loop; the only file that imports the library."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from difftori_pl.trajopt.objective import return_to_residual
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.search import Search
from difftori_pl.trajopt.solvers.base import SolverState

if TYPE_CHECKING:
    from difftori_pl.trajopt.solvers.theseus import Theseus

# The library re-exports its names in a way that strict type checkers do not follow.
theseus: Any = import_module("theseus")

# How the library begins its message when the factorisation failed; any other error is not ours to catch.
_LINEAR_SOLVE_FAILED = "There was an error while running the linear optimizer"


def run(settings: Theseus, problem: Problem, latent: Tensor, iterate: Tensor, n_differentiated: int) -> Search:
    """Solve `problem` with Theseus from `iterate` (B, H, A).

    If the factorisation fails, so do all elements, and they stay at their best iterates, or at the first one if the
    library is differentiating and therefore keeps none.
    """
    layer = _layer(settings, problem, latent, iterate)
    inputs = {"latent": latent.reshape(len(latent), -1), "iterate": iterate.flatten(1)}
    arguments: dict[str, Any] = {
        # As a plain number the library would round it to float32, whatever the problem's dtype.
        "damping": iterate.new_tensor(settings.damping),
        "track_best_solution": True,
        "backward_mode": "truncated" if 0 < n_differentiated < settings.max_steps else "unroll",
        "backward_num_iterations": n_differentiated,
    }
    last, best, broken = iterate.detach(), iterate.detach(), True
    with torch.set_grad_enabled(n_differentiated > 0), warnings.catch_warnings():
        warnings.filterwarnings("ignore", _LINEAR_SOLVE_FAILED, RuntimeWarning)
        try:
            values, info = layer.forward(inputs, arguments)
        except RuntimeError as error:
            if not str(error).startswith(_LINEAR_SOLVE_FAILED):
                raise
        else:
            broken = any(status is theseus.NonlinearOptimizerStatus.FAIL for status in info.status)
            best = info.best_solution["iterate"].view_as(iterate).to(iterate)
            last = best if broken else values["iterate"].view_as(iterate)
    with torch.no_grad():
        best_value = problem.value(latent, best)
    with torch.set_grad_enabled(n_differentiated > 0):
        state = SolverState(last, problem.evaluate(latent, last))
    return Search(
        state=state,
        best_iterate=best,
        best_value=best_value,
        failed=~state.is_finite() | broken,
        n_steps=torch.full_like(best_value, 0 if broken else settings.max_steps, dtype=torch.int64),
    )


def _layer(settings: Theseus, problem: Problem, latent: Tensor, iterate: Tensor) -> Any:
    """Translate the problem: one vector per element to optimise, the latent beside it, one residual."""

    def residual(optim_vars: tuple[Any, ...], aux_vars: tuple[Any, ...]) -> Tensor:
        value = problem.value(
            aux_vars[0].tensor.view(-1, *latent.shape[1:]), optim_vars[0].tensor.view(-1, *iterate.shape[1:])
        )
        return return_to_residual(value, settings.offset).unsqueeze(1)

    class Iterate(theseus.Vector):  # type: ignore[misc]
        """A vector whose steps end within the bounds."""

        def _retract_impl(self, delta: Tensor) -> Iterate:
            moved = (self.tensor + delta).view(-1, *iterate.shape[1:])
            return Iterate(tensor=problem.bounds.project(moved).flatten(1))

    objective = theseus.Objective(dtype=iterate.dtype)
    objective.add(
        theseus.AutoDiffCostFunction(
            [Iterate(tensor=iterate.detach().flatten(1), name="iterate")],
            residual,
            1,
            cost_weight=theseus.ScaleCostWeight(iterate.new_ones(1, 1)),
            aux_vars=[theseus.Variable(latent.detach().reshape(len(latent), -1), name="latent")],
        )
    )
    optimiser = theseus.LevenbergMarquardt(
        objective,
        linear_solver_cls=theseus.CholeskyDenseSolver,
        max_iterations=settings.max_steps,
        step_size=settings.step_size,
        # Zero switches the tests off: they compare r² with its last value by a strict inequality.
        abs_err_tolerance=0.0,
        rel_err_tolerance=0.0,
    )
    layer = theseus.TheseusLayer(optimiser)
    layer.to(device=iterate.device, dtype=iterate.dtype)
    return layer
