"""A call of the Theseus loop; the only file that imports the library."""

from __future__ import annotations

import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from difftori_pl.trajopt.loop_state import LoopState
from difftori_pl.trajopt.objective import Latent, return_to_residual, return_to_residuals
from difftori_pl.trajopt.problem import Problem
from difftori_pl.trajopt.solvers.base import SolverState
from difftori_pl.trajopt.tree import leaves, map_tensors

if TYPE_CHECKING:
    from difftori_pl.trajopt.solvers.theseus import Theseus

# The library re-exports its names in a way that strict type checkers do not follow.
theseus: Any = import_module("theseus")

# Start of the library's message when the factorisation fails; other errors are raised unchanged.
_LINEAR_SOLVE_FAILED = "There was an error while running the linear optimizer"


def run(
    settings: Theseus,
    problem: Problem,
    latent: Latent,
    iterate: Tensor,
    n_differentiated: int,
    own_mode: str | None = None,
) -> LoopState:
    """Solve `problem` with Theseus from `iterate` (B, H, A); see `LibrarySolver.solve`.

    If the factorisation fails, all elements fail and keep their best iterate, or the first one if the library is
    differentiating and therefore stores no best iterate.
    """
    layer = _layer(settings, problem, latent, iterate)
    inputs = {f"latent_{i}": tensor.reshape(len(tensor), -1) for i, tensor in enumerate(leaves(latent))}
    inputs["iterate"] = iterate.flatten(1)
    arguments: dict[str, Any] = {
        "track_best_solution": True,
        "backward_mode": own_mode or ("truncated" if 0 < n_differentiated < settings.max_steps else "unroll"),
        "backward_num_iterations": n_differentiated,
    }
    if settings.optimizer == "LevenbergMarquardt":
        # The library would round a Python number to float32.
        arguments["damping"] = iterate.new_tensor(settings.damping)
    if own_mode == "implicit":
        # The mode adds one differentiated step after the others.
        arguments.pop("backward_num_iterations")
    differentiable = n_differentiated > 0 or own_mode is not None
    last, best, broken = iterate.detach(), iterate.detach(), True
    with torch.set_grad_enabled(differentiable), warnings.catch_warnings():
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
        initial = problem.evaluate(latent, iterate)
    with torch.set_grad_enabled(differentiable):
        state = SolverState(last, problem.evaluate(latent, last))
    return LoopState(
        state=state,
        best_iterate=best,
        best_value=best_value,
        failed=~state.is_finite() | broken,
        n_steps=torch.full_like(best_value, 0 if broken else settings.max_steps, dtype=torch.int64),
        limit=torch.full_like(best_value, settings.max_steps, dtype=torch.int64),
        initial_value=initial.value,
        initial_grad_norm=problem.grad_norm(iterate, initial.gradient),
    )


def _layer(settings: Theseus, problem: Problem, latent: Latent, iterate: Tensor) -> Any:
    """Build the Theseus layer: one vector per element to optimise, the latent as auxiliary variables, the residuals."""

    def residuals(optim_vars: tuple[Any, ...], aux_vars: tuple[Any, ...]) -> Tensor:
        given = iter(aux_vars)
        known = map_tensors(lambda tensor: next(given).tensor.view(-1, *tensor.shape[1:]), latent)
        point = optim_vars[0].tensor.view(-1, *iterate.shape[1:])
        if settings.per_term:
            return return_to_residuals(problem.objective, known, problem.bounds.to_actions(point), settings.offset)
        return return_to_residual(problem.value(known, point), settings.offset).unsqueeze(1)

    class Iterate(theseus.Vector):  # type: ignore[misc]
        """A vector that is projected onto the bounds after each step."""

        def _retract_impl(self, delta: Tensor) -> Iterate:
            moved = (self.tensor + delta).view(-1, *iterate.shape[1:])
            return Iterate(tensor=problem.bounds.project(moved).flatten(1))

    n_residuals = 1
    if settings.per_term:
        with torch.no_grad():
            actions = problem.bounds.to_actions(iterate)
            n_residuals = return_to_residuals(problem.objective, latent, actions, settings.offset).shape[1]
    objective = theseus.Objective(dtype=iterate.dtype)
    objective.add(
        theseus.AutoDiffCostFunction(
            [Iterate(tensor=iterate.detach().flatten(1), name="iterate")],
            residuals,
            n_residuals,
            cost_weight=theseus.ScaleCostWeight(iterate.new_ones(1, 1)),
            aux_vars=[
                theseus.Variable(tensor.detach().reshape(len(tensor), -1), name=f"latent_{i}")
                for i, tensor in enumerate(leaves(latent))
            ],
        )
    )
    optimiser = getattr(theseus, settings.optimizer)(
        objective,
        linear_solver_cls=getattr(theseus, settings.linear_solver),
        max_iterations=settings.max_steps,
        step_size=settings.step_size,
        # Zero switches the tests off: they compare changes of r² by a strict inequality.
        abs_err_tolerance=0.0,
        rel_err_tolerance=0.0,
    )
    layer = theseus.TheseusLayer(optimiser)
    layer.to(device=iterate.device, dtype=iterate.dtype)
    return layer
