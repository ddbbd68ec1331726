"""Base class of modes that differentiate the optimality condition at the solution, not the steps."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.backward.base import BackwardMode, conclude
from difftori_pl.trajopt.backward.detached import Detached
from difftori_pl.trajopt.backward.last_steps import LastSteps, run
from difftori_pl.trajopt.loop_state import LoopState
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.once import once
from difftori_pl.trajopt.problem import Curvature, Problem
from difftori_pl.trajopt.quarantine import stand_in
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver, check_not_negative
from difftori_pl.trajopt.tree import per_element, select


class AtSolution(BackwardMode):
    """Solve without a graph, then differentiate the optimality condition: the gradient of free components is zero.

    With g = ∂G/∂a, g(a*, θ) = 0 implies da*/dθ = (−∂g/∂a)⁻¹ ∂g/∂θ. A loss gradient v becomes u = (−∂g/∂a)⁻¹ v, and one
    backward pass of g converts u to gradients of the parameters and the latent. Memory is that of g, independent of
    the number of steps. Initial actions get no gradient. Components that push against an active bound do not move with
    the parameters and get no gradient.

    Differentiable once: u is a constant for the second derivative, so a second backward pass raises RuntimeError.
    `Unroll` can be differentiated twice.

    The gradient is valid at a stationary point only. An element is stationary if its gradient norm is at most
    `tolerance` times that at the initial actions; this test does not depend on the scale of the objective. An element
    that starts at its maximum is also stationary: its gradient norm is at most √ε times the curvature along the
    gradient, with the dtype's rounding ε, so it is within √ε of the maximum in units of the actions. Other elements are
    reported as `Status.NOT_STATIONARY` and differentiated by `fallback`.

    Args:
        tolerance: largest gradient norm of a stationary element, relative to the gradient norm at its initial actions.
        fallback: mode for elements that are not stationary; if there are any, it takes a second solve. None means
            `Detached`, which gives them no gradient and takes no second solve.
    """

    def __init__(self, tolerance: float = 1e-3, fallback: LastSteps | None = None) -> None:
        check_not_negative(tolerance=tolerance)
        self.tolerance = tolerance
        self.fallback = Detached() if fallback is None else fallback

    @abstractmethod
    def sensitivity(
        self, solver: Solver, problem: Problem, latent: Latent, curvature: Curvature, loss_gradient: Tensor
    ) -> Tensor:
        """Return u (B, H, A): (−∂g/∂a)⁻¹ v on free components, zero on the others.

        Args:
            solver: the solver that found the solution.
            problem: the objective and its bounds.
            latent: input of the objective (B, Z).
            curvature: −∂g/∂a at the solution.
            loss_gradient: v (B, H, A), with respect to the iterate.
        """

    def excludes(self, solver: Solver) -> str | None:
        """Exclude solvers that need not end at a maximum, or that the fallback cannot differentiate."""
        if not solver.reaches_maximum:
            return self._refusal(solver, "it need not end at a maximum; choose Detached or another solver")
        return self.fallback.excludes(solver)

    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve and attach the gradient of the solution."""
        iterate = problem.bounds.to_iterate(actions)
        with torch.no_grad():
            loop = run(solver, problem, latent, iterate, 0)
        first = solution = conclude(solver, problem, loop)
        failed = solution.status == int(Status.FAILED)
        stationary = self._is_stationary(problem, latent, loop) & ~failed
        status = torch.where(stationary | failed, solution.status, int(Status.NOT_STATIONARY))
        if not torch.is_grad_enabled():
            return replace(solution, status=status)
        all_stationary, any_stationary = torch.stack((stationary.all(), stationary.any())).tolist()
        if not all_stationary and self.fallback.differentiable:
            solution = self.fallback.apply(solver, problem, latent, actions)
        elif not any_stationary:
            solution = conclude(solver, problem, loop.without_gradient(anchor=problem.value(latent, iterate)))
        if any_stationary:
            # The other elements are computed as copies of a stationary one, because their derivatives may be NaN.
            found, known = stand_in(~stationary, loop.state.iterate), stand_in(~stationary, latent)
            found = self._attach(solver, problem, known, found)
            attached = replace(first, actions=problem.bounds.to_actions(found), value=problem.value(known, found))
            solution = select(stationary, attached, solution)
        return replace(solution, status=status)

    def _is_stationary(self, problem: Problem, latent: Latent, loop: LoopState) -> Tensor:
        grad_norm = problem.grad_norm(loop.state.iterate, loop.state.evaluation.gradient)
        with torch.no_grad():
            curvature = problem.curvature(latent, loop.state.iterate)
            ascent = curvature.gradient.detach() * curvature.free
            # Normalise before the product, so that tiny gradients do not underflow.
            product = curvature.product(ascent / per_element(grad_norm, ascent))
        product = torch.where(torch.isfinite(product), product, 0.0)
        rounding = torch.finfo(product.dtype).eps ** 0.5 * torch.linalg.vector_norm(product.flatten(1), dim=1)
        return (grad_norm <= self.tolerance * loop.initial_grad_norm) | (grad_norm <= rounding)

    def _attach(self, solver: Solver, problem: Problem, latent: Latent, iterate: Tensor) -> Tensor:
        curvature = problem.curvature(latent, iterate)

        def sensitivity(loss_gradient: Tensor) -> Tensor:
            with torch.no_grad():
                found = self.sensitivity(solver, problem, latent, curvature, loss_gradient * curvature.free)
            return once(found, loss_gradient, curvature.gradient, part=self, instead="Unroll")

        attached: Tensor = _Attach.apply(iterate, curvature.gradient, sensitivity)  # type: ignore[no-untyped-call]
        return attached


class _Attach(torch.autograd.Function):
    """Return the iterate; backwards, pass the sensitivity to its loss gradient on to the objective's gradient."""

    @staticmethod
    def forward(ctx: Any, iterate: Tensor, gradient: Tensor, sensitivity: Callable[[Tensor], Tensor]) -> Tensor:
        del gradient
        ctx.sensitivity = sensitivity
        return iterate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.sensitivity(gradients[0]), None
