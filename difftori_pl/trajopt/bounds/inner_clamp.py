"""Bounds by clamping inside the objective, as published."""

from torch import Tensor

from difftori_pl.trajopt.bounds.base import Bounds, check_box


class InnerClamp(Bounds):
    """Leave the iterate unbounded and clamp it in the objective and in the result.

    As in the authors' code, for comparison. Outside the box the objective is constant: an action there has zero
    gradient, does not move for the rest of the solve, and passes no loss gradient. Prefer `Projection`.

    Args:
        low: smallest action.
        high: largest action.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        check_box(low, high)
        self.low = low
        self.high = high

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Return the initial `actions` (B, H, A) unchanged."""
        return actions

    def project(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A) unchanged."""
        return iterate

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Clamp the `iterate` (B, H, A)."""
        return iterate.clamp(self.low, self.high)

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark components outside the box, boolean (B, H, A)."""
        del gradient
        return (iterate < self.low) | (iterate > self.high)
