"""A sum tree for prioritised sampling in logarithmic time (Schaul et al., arXiv:1511.05952)."""

from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]


class SumTree:
    """Binary tree of non-negative weights for sampling indices in proportion to them; operations are vectorised.

    Node i holds the sum of its children 2i and 2i + 1; the leaves are the weights. Sums are in float64. Updates
    recompute sums from the leaves instead of adding differences, so that rounding errors do not accumulate.

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
        """All weights (capacity,) float64; change them only by `update`."""
        return self._nodes[self._first : self._first + self.capacity]

    def update(self, indices: Array, weights: Array) -> None:
        """Set weights (N,) at `indices` (N,); the last of several values for an index applies.

        Raises:
            ValueError: a weight is negative or not finite, which would make every sum above it wrong.
        """
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ValueError(f"weights must be finite and not negative, got {weights}")
        nodes = np.asarray(indices) + self._first
        self._nodes[nodes] = weights
        for _ in range(self._depth):
            nodes = np.unique(nodes >> 1)
            self._nodes[nodes] = self._nodes[2 * nodes] + self._nodes[2 * nodes + 1]

    def find(self, points: Array) -> Array:
        """Return the indices (N,) int64 at which the cumulative sum of weights passes `points` (N,) in [0, total)."""
        rest = np.array(points, dtype=np.float64)
        nodes = np.ones(len(rest), dtype=np.int64)
        for _ in range(self._depth):
            left = 2 * nodes
            mass = self._nodes[left]
            # Rounding may move a point past the last weight; never enter a branch of weight zero.
            right = (rest >= mass) & (self._nodes[left + 1] > 0)
            rest -= np.where(right, mass, 0.0)
            nodes = left + right
        return nodes - self._first
