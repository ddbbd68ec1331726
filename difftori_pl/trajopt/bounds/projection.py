"""Bounds by projecting the iterate."""

from torch import Tensor

from difftori_pl.trajopt.bounds.base import Bounds, check_box


class Projection(Bounds):
    """Clamp the iterate to [low, high] before the first and after each step.

    On a bound the objective's gradient is not zero, so a component leaves the bound as soon as the gradient points
    inwards. A step that ends within the box, bounds included, passes the loss gradient of a component. A step that the
    projection shortens passes exactly zero, because small changes of the parameters leave the action on its bound.

    Args:
        low: smallest action.
        high: largest action.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        check_box(low, high)
        self.low = low
        self.high = high

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Clamp the initial `actions` (B, H, A)."""
        return actions.clamp(self.low, self.high)

    def project(self, iterate: Tensor) -> Tensor:
        """Clamp the `iterate` (B, H, A)."""
        return iterate.clamp(self.low, self.high)

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A), which is already within the bounds."""
        return iterate

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark components on a bound whose `gradient` points out of the box, boolean (B, H, A)."""
        return ((iterate <= self.low) & (gradient < 0)) | ((iterate >= self.high) & (gradient > 0))
