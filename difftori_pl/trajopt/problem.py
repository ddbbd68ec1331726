"""The problem that a solver maximises: an objective and its bounds, with values and derivatives."""

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.objective import Latent, Objective, check_is_tensor, return_to_residuals
from difftori_pl.trajopt.tree import detach, select


@dataclass(frozen=True)
class Evaluation:
    """The objective at one iterate.

    Attributes:
        value: the objective (B,).
        gradient: its gradient with respect to the iterate (B, H, A).
    """

    value: Tensor
    gradient: Tensor


@dataclass(frozen=True)
class Curvature:
    """Minus the Hessian of the objective at one iterate, on the components that are free to move.

    Attributes:
        gradient: the objective's gradient (B, H, A), part of the autograd graph.
        point: the iterate at which it was taken (B, H, A), a leaf of that graph.
        free: components that do not push against an active bound, boolean (B, H, A).
        damping: added to the diagonal of minus the Hessian.
    """

    gradient: Tensor
    point: Tensor
    free: Tensor
    damping: float

    def product(self, vector: Tensor) -> Tensor:
        """Multiply by a `vector` (B, H, A) exactly, in one backward pass."""
        vector, image = vector * self.free, None
        if self.gradient.requires_grad:
            (image,) = torch.autograd.grad(self.gradient, self.point, vector, retain_graph=True, allow_unused=True)
        damped = self.damping * vector
        return damped if image is None else damped - image * self.free


@dataclass(frozen=True)
class Problem:
    """Maximise `objective` within `bounds`, separately for each batch element.

    Attributes:
        objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,).
        bounds: map between the solver's iterate and actions.
        traced: whether to keep every iterate.
        compiled: whether to compile the solver's steps.
        resting: a boolean mask (B,) and iterates (B, H, A); `evaluate` replaces the masked elements by these iterates.
    """

    objective: Objective
    bounds: Bounds
    traced: bool = False
    compiled: bool = False
    resting: tuple[Tensor, Tensor] | None = None

    def value(self, latent: Latent, iterate: Tensor) -> Tensor:
        """Evaluate the objective (B,) at an `iterate` (B, H, A), in the iterate's dtype.

        Raises:
            ShapeError: the objective did not return one number per batch element.
            ConfigurationError: the objective did not return a tensor.
        """
        value = self.objective(latent, self.bounds.to_actions(iterate))
        check_is_tensor(value, "the objective's value")
        if value.shape != iterate.shape[:1]:
            raise ShapeError(
                f"the objective must return one value per batch element, shape {tuple(iterate.shape[:1])}, "
                f"got {tuple(value.shape)}; sum over time and squeeze trailing dimensions in the objective"
            )
        return value.to(iterate.dtype)

    def evaluate(self, latent: Latent, iterate: Tensor) -> Evaluation:
        """Evaluate value and gradient together.

        The result is part of the autograd graph if gradients are enabled, and detached under `torch.no_grad()`.

        Args:
            latent: input of the objective (B, Z).
            iterate: where to evaluate (B, H, A).

        Raises:
            ShapeError: the objective did not return one number per batch element.
            ConfigurationError: the objective does not depend on the actions.
        """
        if self.resting is not None:
            iterate = select(*self.resting, iterate)
        differentiable = torch.is_grad_enabled()
        if not differentiable:
            latent, iterate = detach(latent), iterate.detach()
        if torch.compiler.is_compiling():
            value, gradient = self._value_and_gradient(latent, iterate)
        else:
            with torch.enable_grad():
                if not iterate.requires_grad:
                    iterate = iterate.detach().requires_grad_()
                value = self.value(latent, iterate)
                gradient = self._gradient(value, iterate, differentiable)
        if not differentiable:
            value, gradient = value.detach(), gradient.detach()
        return Evaluation(value, gradient)

    def grad_norm(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Return the Euclidean norm (B,) of a `gradient` (B, H, A) without components that push against a bound.

        It is detached: nothing needs its derivative, which is infinite at a zero gradient.
        """
        point, slope = iterate.detach(), gradient.detach()
        free = slope.masked_fill(self.bounds.active(point, slope), 0.0)
        return torch.linalg.vector_norm(free.flatten(1), dim=1)

    def curvature(self, latent: Latent, iterate: Tensor, damping: float = 0.0) -> Curvature:
        """Prepare products with the Hessian at an `iterate` (B, H, A), which counts as a constant.

        If gradients are enabled, the stored gradient is connected to the objective's parameters and `latent`.
        """
        point = iterate.detach().requires_grad_()
        latent = latent if torch.is_grad_enabled() else detach(latent)
        with torch.enable_grad():
            gradient = self._gradient(self.value(latent, point), point, differentiable=True)
        return Curvature(gradient, point, ~self.bounds.active(point.detach(), gradient.detach()), damping)

    def jacobian(self, latent: Latent, iterate: Tensor, offset: float) -> tuple[Tensor, Tensor]:
        """Return the residuals r (B, K) and their derivatives (B, K, H, A); see `return_to_residuals`.

        The result is part of the autograd graph if gradients are enabled, and detached under `torch.no_grad()`.
        """
        differentiable = torch.is_grad_enabled()
        if not differentiable:
            latent, iterate = detach(latent), iterate.detach()
        with torch.enable_grad():
            if not iterate.requires_grad:
                iterate = iterate.detach().requires_grad_()
            actions = self.bounds.to_actions(iterate)
            residuals = return_to_residuals(self.objective, latent, actions, offset).to(iterate.dtype)
            rows = [
                torch.autograd.grad(
                    residual.sum(), iterate, retain_graph=True, create_graph=differentiable, materialize_grads=True
                )[0]
                for residual in residuals.unbind(dim=1)
            ]
            jacobian = torch.stack(rows, dim=1)
        return (residuals, jacobian) if differentiable else (residuals.detach(), jacobian.detach())

    def _value_and_gradient(self, latent: Latent, iterate: Tensor) -> tuple[Tensor, Tensor]:
        """Compute value and gradient with `torch.func`, which torch.compile can trace."""

        def total(point: Tensor) -> tuple[Tensor, Tensor]:
            value = self.value(latent, point)
            return value.sum(), value

        gradient, value = torch.func.grad(total, has_aux=True)(iterate)
        return value, gradient

    @staticmethod
    def _gradient(value: Tensor, iterate: Tensor, differentiable: bool) -> Tensor:
        gradient = None
        if value.requires_grad:
            # The batch elements are independent, so the gradient of their sum holds each element's own gradient.
            (gradient,) = torch.autograd.grad(
                value, iterate, torch.ones_like(value), create_graph=differentiable, allow_unused=True
            )
        if gradient is None:
            raise ConfigurationError(
                "the objective does not depend on the actions, so there is nothing to optimise; "
                "check that it uses its second argument and does not detach it"
            )
        return gradient
