"""The problem a solver sees: an objective, its bounds, and value and gradient in one evaluation."""

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.objective import Objective


@dataclass(frozen=True)
class Evaluation:
    """The objective at one iterate.

    Attributes:
        value: the objective (B,).
        gradient: its gradient with respect to the iterate (B, H, A).
        grad_norm: norm of `gradient` without the components that push against an active bound (B,), detached.
    """

    value: Tensor
    gradient: Tensor
    grad_norm: Tensor


@dataclass(frozen=True)
class Problem:
    """Maximise `objective` within `bounds`, separately for each batch element.

    Attributes:
        objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,).
        bounds: relates the solver's iterate to actions.
    """

    objective: Objective
    bounds: Bounds

    def value(self, latent: Tensor, iterate: Tensor) -> Tensor:
        """Evaluate the objective (B,) at an `iterate` (B, H, A), in the iterate's dtype.

        Raises:
            ShapeError: the objective did not return one number per batch element.
        """
        value = self.objective(latent, self.bounds.to_actions(iterate))
        if value.shape != iterate.shape[:1]:
            raise ShapeError(
                f"the objective must return one value per batch element, shape {tuple(iterate.shape[:1])}, "
                f"but returned {tuple(value.shape)}; sum over time and squeeze trailing dimensions inside it"
            )
        return value.to(iterate.dtype)

    def evaluate(self, latent: Tensor, iterate: Tensor) -> Evaluation:
        """Evaluate value and gradient together.

        The result is part of the autograd graph where gradients are enabled, and detached under `torch.no_grad()`.

        Args:
            latent: what the objective is conditioned on (B, Z).
            iterate: where to evaluate (B, H, A).

        Raises:
            ShapeError: the objective did not return one number per batch element.
            ConfigurationError: the objective does not depend on the actions.
        """
        differentiable = torch.is_grad_enabled()
        if not differentiable:
            latent, iterate = latent.detach(), iterate.detach()
        with torch.enable_grad():
            if not iterate.requires_grad:
                iterate = iterate.detach().requires_grad_()
            value = self.value(latent, iterate)
            gradient = self._gradient(value, iterate, differentiable)
        if not differentiable:
            value = value.detach()
        # Square root and division of a norm are of no use in the graph, and infinite there at a zero gradient.
        free = gradient.detach().masked_fill(self.bounds.active(iterate.detach(), gradient.detach()), 0.0)
        return Evaluation(value, gradient, torch.linalg.vector_norm(free.flatten(1), dim=1))

    @staticmethod
    def _gradient(value: Tensor, iterate: Tensor, differentiable: bool) -> Tensor:
        gradient = None
        if value.requires_grad:
            # The batch elements are independent, so the gradient of the sum holds each element's own gradient.
            (gradient,) = torch.autograd.grad(value.sum(), iterate, create_graph=differentiable, allow_unused=True)
        if gradient is None:
            raise ConfigurationError(
                "the objective does not depend on the actions, so there is nothing to optimise; "
                "check that it uses its second argument and does not detach it"
            )
        return gradient
