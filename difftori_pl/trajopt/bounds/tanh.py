"""Bounds by a change of variables."""

from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.bounds.base import Bounds, check_box


class Tanh(Bounds):
    """Optimise an unbounded iterate u with actions a = centre + half width · tanh(u), which are always inside the box.

    The map is smooth: no bound is ever active, no gradient is cut off, and every exact backward mode is exact. However,
    an optimum on a bound is only approached, and gradients shrink as an action comes closer to a bound.

    Args:
        low: smallest action.
        high: largest action.
        margin: smallest distance of initial actions from the bounds, as a fraction of the box's half width. At a bound
            tanh has no inverse, and near it almost no slope.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, margin: float = 0.01) -> None:
        check_box(low, high)
        if not 0 < margin < 1:
            raise ConfigurationError(f"margin must be between 0 and 1, got {margin}")
        self.low = low
        self.high = high
        self.margin = margin

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Return artanh of the initial `actions` (B, H, A) as fractions of the box's half width."""
        fraction = (actions - (self.high + self.low) / 2) / ((self.high - self.low) / 2)
        return fraction.clamp(self.margin - 1, 1 - self.margin).atanh()

    def project(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A) unchanged."""
        return iterate

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Map the `iterate` (B, H, A) into the box."""
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * iterate.tanh()
