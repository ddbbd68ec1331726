"""Bounds kept by a change of variables."""

from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.bounds.base import Bounds, check_box


class Tanh(Bounds):
    """Let the iterate u roam; actions are a = centre + half · tanh(u), inside the box by construction.

    Smooth: there is no active bound and no dead zone, and every exact backward mode is exact. But an optimum on the
    bound is only approached, and the closer an action is to a bound, the smaller its gradient.

    Args:
        low: smallest action.
        high: largest action.
        margin: initial actions are kept this fraction of the box's half width away from the bounds, where tanh has no
            inverse and next to no slope.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0, margin: float = 0.01) -> None:
        check_box(low, high)
        if not 0 < margin < 1:
            raise ConfigurationError(f"margin must be between 0 and 1, got {margin}")
        self.low = low
        self.high = high
        self.margin = margin

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Give artanh of the initial `actions` (B, H, A) as fractions of the box."""
        fraction = (actions - (self.high + self.low) / 2) / ((self.high - self.low) / 2)
        return fraction.clamp(self.margin - 1, 1 - self.margin).atanh()

    def project(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A) unchanged."""
        return iterate

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Squash the `iterate` (B, H, A)."""
        return (self.high + self.low) / 2 + (self.high - self.low) / 2 * iterate.tanh()
