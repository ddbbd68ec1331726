"""Base class of action bounds."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.part import Part


class Bounds(Part, ABC):
    """Maps between the solver's iterate and actions within their limits.

    The solver moves an *iterate* (B, H, A). `to_iterate` converts initial actions, `project` corrects the iterate after
    each step, and `to_actions` converts it to the actions that the objective receives and the layer returns.
    """

    def around(self, actions: Tensor, unit: Tensor | float = 1.0) -> "Bounds":
        """Give the bounds of one solve from initial `actions` (B, H, A) or (B, S, H, A); most do not depend on them.

        Args:
            actions: initial actions, in the unit of the bounds.
            unit: size in the unit of the bounds of 1 in the unit of the layer's caller, () or (A,).
        """
        del actions, unit
        return self

    @property
    def reach(self) -> float | None:
        """Largest change of a component in one solve, in the layer's unit; None if only the limits restrict it."""
        return None

    @abstractmethod
    def to_iterate(self, actions: Tensor) -> Tensor:
        """Return the initial iterate for initial `actions` (B, H, A)."""

    @abstractmethod
    def project(self, iterate: Tensor) -> Tensor:
        """Correct an `iterate` (B, H, A) after a step, so that it respects the bounds."""

    @abstractmethod
    def to_actions(self, iterate: Tensor) -> Tensor:
        """Return the actions (B, H, A) of an `iterate`."""

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark the components that a step along `gradient` cannot move, boolean (B, H, A)."""
        del gradient
        return torch.zeros_like(iterate, dtype=torch.bool)


def check_box(low: float, high: float) -> None:
    """Check that the box [low, high] is not empty.

    Raises:
        ConfigurationError: `low` is not below `high`.
    """
    if not low < high:
        raise ConfigurationError(f"bounds need low < high, got low={low} and high={high}")
