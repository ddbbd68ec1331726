"""A sum tree: prioritised sampling and updates in logarithmic time (Schaul et al., arXiv:1511.05952)."""

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


class SumTree:
    """Non-negative weights, of which indices are drawn in proportion; all operations take whole arrays.

    Node i has the children 2i and 2i + 1, and holds their sum; the leaves are the weights. Sums are in float64, and are
    built anew from the leaves rather than corrected by differences, so that rounding does not pile up.

    Args:
        capacity: number of weights.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._depth = max(capacity - 1, 1).bit_length()
        self._first = 1 << self._depth
        self._nodes = np.zeros(2 * self._first)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self._nodes[1])

    @property
    def weights(self) -> Array:
        """All weights (capacity,) float64; to be changed by `update` only."""
        return self._nodes[self._first : self._first + self.capacity]

    def update(self, indices: Array, weights: Array) -> None:
        """Set weights (N,) at `indices` (N,); of an index that comes twice, the last counts.

        Raises:
            ValueError: a weight is negative or not finite; it would spoil every sum above it.
        """
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"weights must be finite and not negative, got {weights}")
        nodes = np.asarray(indices) + self._first
        self._nodes[nodes] = weights
        for _ in range(self._depth):
            nodes = np.unique(nodes >> 1)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, points: Array) -> Array:
        """Indices (N,) int64 of the weights at `points` (N,) in [0, total) of their running sum."""
        rest = np.array(points, dtype=np.float64)
        nodes = np.ones(len(rest), dtype=np.int64)
        for _ in range(self._depth):
            left = 2 * nodes
            mass = self._nodes[left]
            # Rounding may leave a point beyond the last weight; a branch without weight is never entered.
            right = (rest >= mass) & (self._nodes[left + 1] > 0)
            rest -= np.where(right, mass, 0.0)
            nodes = left + right
        return nodes - self._first
