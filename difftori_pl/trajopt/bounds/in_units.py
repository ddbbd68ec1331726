"""Bounds of actions that are measured in other units."""

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.bounds.base import Bounds


class InUnits(Bounds):
    """Other bounds, for actions in multiples of a unit: they hold for `actions * unit`.

    A solver's step goes equally far in all components. Where one component of an action ranges over a tenth of
    another, equal steps suit only one of them; measured in their standard deviations both fare alike.

    Args:
        bounds: keeps `actions * unit` within limits.
        unit: size of 1 in each action component (A,), or in all of them (); positive and finite.

    Raises:
        ConfigurationError: `unit` is not a tensor, or not positive and finite.
        ShapeError: `unit` has more than one dimension, or, once there are actions, not one value per component.
    """

    def __init__(self, bounds: Bounds, unit: Tensor) -> None:
        if not isinstance(unit, Tensor):
            raise ConfigurationError(f"unit must be a tensor, got {type(unit).__name__}; pass torch.as_tensor(unit)")
        if unit.ndim > 1:
            raise ShapeError(f"unit must have one value per action component, shape (A,), got {tuple(unit.shape)}")
        # As a list, because comparing tensors would put a read on the host into exported programs.
        sizes = unit.flatten().tolist()
        if not all(0 < size < torch.inf for size in sizes):
            raise ConfigurationError(
                f"unit must be positive and finite, got {sizes}; for a component that never changes, use 1"
            )
        self.bounds = bounds
        self.unit = unit

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Give the iterate to start from for initial `actions` (B, H, A)."""
        if self.unit.shape not in ((), actions.shape[-1:]):
            raise ShapeError(
                f"unit must have one value per action component, shape ({actions.shape[-1]},), got "
                f"{tuple(self.unit.shape)}"
            )
        return self.bounds.to_iterate(actions * self.unit) / self.unit

    def project(self, iterate: Tensor) -> Tensor:
        """Bring an `iterate` (B, H, A) back after a step."""
        return self.bounds.project(iterate * self.unit) / self.unit

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Give the actions (B, H, A) that an `iterate` stands for."""
        return self.bounds.to_actions(iterate * self.unit) / self.unit

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark the components that a step along `gradient` cannot move, boolean (B, H, A)."""
        actions = iterate * self.unit
        # What was projected onto a bound may be off it by a rounding, there and back.
        rounding = torch.finfo(actions.dtype).eps * actions.abs()
        return self.bounds.active(actions + rounding * gradient.sign(), gradient)
