"""Bounds that keep an action near the one that the solve started from."""

from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.bounds.base import Bounds
from difftori_pl.trajopt.bounds.straight_through import StraightThroughProjection


class TrustRegion(StraightThroughProjection):
    """Project each component onto [start - radius, start + radius], within [low, high].

    A learned score is only accurate near the demonstrations. A small radius limits the damage that an inaccurate score
    can do to a good initial action; it does for any solver what `reach` does for `LevenbergMarquardt`. The gradient of
    a step that ends outside is that of `StraightThroughProjection`. The initial actions get no gradient through the
    region's limits.

    Args:
        radius: largest change of a component, in multiples of the layer's `unit`: standard deviations of the
            demonstrated actions in `DiffTORIIL`.
        low: smallest action.
        high: largest action.
    """

    low: float | Tensor  # type: ignore[assignment]
    high: float | Tensor  # type: ignore[assignment]

    def __init__(self, radius: float, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__(low, high)
        if not radius > 0:
            raise ConfigurationError(f"radius must be above 0, got {radius}")
        self.radius = radius

    @property
    def reach(self) -> float:
        """The radius."""
        return self.radius

    def around(self, actions: Tensor, unit: Tensor | float = 1.0) -> Bounds:
        """Give the region around initial `actions` (B, H, A); of several starts (B, S, H, A), around the first."""
        centre = self.to_iterate(actions[:, 0] if actions.ndim == 4 else actions).detach()
        width = self.radius * unit
        return self._with_limits(self.to_iterate(centre - width), self.to_iterate(centre + width))

    def project(self, iterate: Tensor) -> Tensor:
        """Clamp the `iterate` (B, H, A), or several iterates of each element (B, N, H, A)."""
        if isinstance(self.low, Tensor) and isinstance(self.high, Tensor) and iterate.ndim > self.low.ndim:
            return self._with_limits(self.low.unsqueeze(1), self.high.unsqueeze(1)).project(iterate)
        return super().project(iterate)

    def _with_limits(self, low: Tensor, high: Tensor) -> "TrustRegion":
        region = TrustRegion(self.radius)
        region.low, region.high = low, high
        return region
