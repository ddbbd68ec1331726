"""Actions without bounds."""

from torch import Tensor

from difftori_pl.trajopt.bounds.base import Bounds


class Unbounded(Bounds):
    """Leave actions unbounded; iterate and actions are the same."""

    def to_iterate(self, actions: Tensor) -> Tensor:
        """Return the initial `actions` (B, H, A) unchanged."""
        return actions

    def project(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A) unchanged."""
        return iterate

    def to_actions(self, iterate: Tensor) -> Tensor:
        """Return the `iterate` (B, H, A) unchanged."""
        return iterate
