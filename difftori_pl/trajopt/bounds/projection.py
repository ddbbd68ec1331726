"""Bounds kept by projecting the iterate."""

from torch import Tensor

from difftori_pl.trajopt.bounds.base import Bounds, check_box


class Projection(Bounds):
    """Clamp the iterate to [low, high] before the first and after each step.

    An iterate on a bound still sees the objective's gradient, so it leaves the bound as soon as that points inwards.
    The loss gradient of a component is passed through a step that ends inside the box, the bounds included, and is
    exactly zero for a step that the projection cut short: such an action rests on its bound, whatever the parameters.

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
        """Return the `iterate` (B, H, A), which is within the bounds already."""
        return iterate

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark components on a bound whose `gradient` points out of the box, boolean (B, H, A)."""
        return ((iterate <= self.low) & (gradient < 0)) | ((iterate >= self.high) & (gradient > 0))
