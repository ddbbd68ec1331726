"""Bounds for actions in other units."""

from collections.abc import MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.trajopt.bounds.base import Bounds

_checked: MutableMapping[Tensor, int] = WeakIdKeyDictionary()
"""Version of each unit that is positive and finite: a read on the host for every solve would wait for the device."""


class InUnits(Bounds):
    """Apply other bounds to `actions * unit`, for actions in multiples of a unit.

    A solver's steps have similar length in all components. If the range of one action component is a tenth of another,
    no step size suits both; in units of their standard deviations, one step size does.

    Args:
        bounds: keeps `actions * unit` within limits.
        unit: size of 1 in each action component (A,), or in all of them (); positive and finite.

    Raises:
        ConfigurationError: `unit` is not a tensor, or not positive and finite.
        ShapeError: `unit` has more than one dimension, or (when called) not one value per action component.
    """

    def __init__(self, bounds: Bounds, unit: Tensor) -> None:
        if not isinstance(unit, Tensor):
            raise ConfigurationError(f"unit must be a tensor, got {type(unit).__name__}; pass torch.as_tensor(unit)")
        if unit.ndim > 1:
            raise ShapeError(f"unit must have one value per action component, shape (A,), got {tuple(unit.shape)}")
        if unit.is_inference() or _checked.get(unit) != unit._version:  # inference tensors have no version
            _check_sizes(unit)
        self.bounds = bounds
        self.unit = unit

    def around(self, actions: Tensor, unit: Tensor | float = 1.0) -> Bounds:
        """Give the bounds of one solve from initial `actions`; see `Bounds.around`."""
        self._check(actions)
        bounds = self.bounds.around(actions * self.unit, self.unit * unit)
        return self if bounds is self.bounds else InUnits(bounds, self.unit)

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Return the initial iterate for initial `actions` (B, H, A)."""
        self._check(actions)
        return self.bounds.to_iterate(actions * self.unit) / self.unit

    def project(self, iterate: Tensor) -> Tensor:
        """Correct an `iterate` (B, H, A) after a step, so that it respects the bounds."""
        return self.bounds.project(iterate * self.unit) / self.unit

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Return the actions (B, H, A) of an `iterate`."""
        return self.bounds.to_actions(iterate * self.unit) / self.unit

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark the components that a step along `gradient` cannot move, boolean (B, H, A)."""
        actions = iterate * self.unit
        # Dividing by the unit and multiplying again may move a projected component off its bound by a rounding error.
        rounding = torch.finfo(actions.dtype).eps * actions.abs()
        return self.bounds.active(actions + rounding * gradient.sign(), gradient)

    def _check(self, actions: Tensor) -> None:
        if self.unit.shape not in ((), actions.shape[-1:]):
            raise ShapeError(
                f"unit must have one value per action component, shape ({actions.shape[-1]},), got "
                f"{tuple(self.unit.shape)}"
            )


def _check_sizes(unit: Tensor) -> None:
    # Compare Python numbers: comparing tensors would add a read on the host to exported programs.
    sizes = unit.flatten().tolist()
    if not all(0 < size < torch.inf for size in sizes):
        raise ConfigurationError(
            f"unit must be positive and finite, got {sizes}; for a component that never changes, use 1"
        )
    if not unit.is_inference():
        _checked[unit] = unit._version
