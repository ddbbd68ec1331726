"""The family of modes that differentiate the solution, whatever steps led to it."""

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
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.once import once
from difftori_pl.trajopt.problem import Curvature, Problem
from difftori_pl.trajopt.quarantine import stand_in
from difftori_pl.trajopt.search import Search
from difftori_pl.trajopt.solution import Solution, Status
from difftori_pl.trajopt.solvers.base import Solver, check_not_negative
from difftori_pl.trajopt.tree import per_element, select


class AtSolution(BackwardMode):
    """Solve without a graph; then differentiate the condition that holds at a solution: no free component has a slope.

    With g = ∂G/∂a, g(a*, θ) = 0 implies da*/dθ = (−∂g/∂a)⁻¹ ∂g/∂θ. A loss gradient v becomes u = (−∂g/∂a)⁻¹ v, which
    one backward pass of g turns into gradients of the parameters and the latent. The memory is that of g, no matter how
    many steps were taken; initial actions get no gradient. Components that push against an active bound do not move
    with the parameters, and get none either.

    Differentiable once: u counts as a constant of a second derivative, so a second backward pass raises RuntimeError.
    `Unroll` can be differentiated twice.

    The gradient is valid at a stationary point only. An element is stationary if its gradient norm has fallen to
    `tolerance` times that of the initial actions, which does not depend on the scale of the objective. A start at the
    maximum is stationary as well: within √ε of it, in units of the actions, the value is flat to its rounding ε. Other
    elements are reported as `Status.NOT_STATIONARY`, and differentiated by `fallback`.

    Args:
        tolerance: largest gradient norm of a stationary element, relative to the gradient norm at its initial actions.
        fallback: differentiates the elements that are not stationary, which takes a second solve if there are any;
            `Detached`, the default, gives them no gradient, at no cost.
    """

    def __init__(self, tolerance: float = 1e-3, fallback: LastSteps | None = None) -> None:
        check_not_negative(tolerance=tolerance)
        self.tolerance = tolerance
        self.fallback = Detached() if fallback is None else fallback

    @abstractmethod
    def sensitivity(
        self, solver: Solver, problem: Problem, latent: Latent, curvature: Curvature, loss_gradient: Tensor
    ) -> Tensor:
        """Give u (B, H, A), which is (−∂g/∂a)⁻¹ v on free components and zero on others.

        Args:
            solver: the method that found the solution.
            problem: the objective within its bounds.
            latent: what the objective is conditioned on (B, Z).
            curvature: −∂g/∂a at the solution.
            loss_gradient: v (B, H, A), by the iterate.
        """

    def excludes(self, solver: Solver) -> str | None:
        """Refuse a solver that does not end at a maximum, or that the fallback cannot differentiate."""
        if not solver.reaches_maximum:
            return self._refusal(solver, "it need not end at a maximum; choose Detached, or another solver")
        return self.fallback.excludes(solver)

    def apply(self, solver: Solver, problem: Problem, latent: Latent, actions: Tensor) -> Solution:
        """Solve, and attach the gradient of the solution."""
        iterate = problem.bounds.to_iterate(actions)
        with torch.no_grad():
            search = run(solver, problem, latent, iterate, 0)
        first = solution = conclude(solver, problem, search)
        failed = solution.status == int(Status.FAILED)
        stationary = self._is_stationary(problem, latent, search) & ~failed
        status = torch.where(stationary | failed, solution.status, int(Status.NOT_STATIONARY))
        if not torch.is_grad_enabled():
            return replace(solution, status=status)
        everywhere, somewhere = torch.stack((stationary.all(), stationary.any())).tolist()
        if not everywhere and self.fallback.differentiable:
            solution = self.fallback.apply(solver, problem, latent, actions)
        elif not somewhere:
            solution = conclude(solver, problem, search.without_gradient(anchor=problem.value(latent, iterate)))
        if somewhere:
            # The others are computed as copies of a stationary element, for what cannot be differentiated may be NaN.
            found, known = stand_in(~stationary, search.state.iterate), stand_in(~stationary, latent)
            found = self._attach(solver, problem, known, found)
            attached = replace(first, actions=problem.bounds.to_actions(found), value=problem.value(known, found))
            solution = select(stationary, attached, solution)
        return replace(solution, status=status)

    def _is_stationary(self, problem: Problem, latent: Latent, search: Search) -> Tensor:
        grad_norm = search.state.evaluation.grad_norm
        with torch.no_grad():
            curvature = problem.curvature(latent, search.state.iterate)
            ascent = curvature.gradient.detach() * curvature.free
            # Lengths are divided out before the product, so that tiny gradients do not vanish in it.
            bend = curvature.product(ascent / per_element(grad_norm, ascent))
        bend = torch.where(torch.isfinite(bend), bend, 0.0)
        rounding = torch.finfo(bend.dtype).eps ** 0.5 * torch.linalg.vector_norm(bend.flatten(1), dim=1)
        return (grad_norm <= self.tolerance * search.initial_grad_norm) | (grad_norm <= rounding)

    def _attach(self, solver: Solver, problem: Problem, latent: Latent, iterate: Tensor) -> Tensor:
        curvature = problem.curvature(latent, iterate)

        def sensitivity(loss_gradient: Tensor) -> Tensor:
            with torch.no_grad():
                found = self.sensitivity(solver, problem, latent, curvature, loss_gradient * curvature.free)
            return once(found, loss_gradient, curvature.gradient, part=self, instead="Unroll")

        attached: Tensor = _Attach.apply(iterate, curvature.gradient, sensitivity)  # type: ignore[no-untyped-call]
        return attached


class _Attach(torch.autograd.Function):
    """Give the iterate; backwards, hand its loss gradient as the sensitivity to the objective's gradient."""

    @staticmethod
    def forward(ctx: Any, iterate: Tensor, gradient: Tensor, sensitivity: Callable[[Tensor], Tensor]) -> Tensor:
        del gradient
        ctx.sensitivity = sensitivity
        return iterate.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor, None]:
        return None, ctx.sensitivity(gradients[0]), None
