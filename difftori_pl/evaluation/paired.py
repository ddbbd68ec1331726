"""Compare two policies on the same initial states."""

import math
from collections.abc import Mapping
from typing import NamedTuple


class Paired(NamedTuple):
    """Initial states that only one of two policies solves.

    Attributes:
        n_gained: number of states that only the first policy solves.
        n_lost: number of states that only the second policy solves.
    """

    n_gained: int
    n_lost: int

    @property
    def p_value(self) -> float:
        """Two-sided p-value of the sign test (the exact McNemar test); 1 if no state differs."""
        n = sum(self)
        tail = sum(math.comb(n, k) for k in range(min(self) + 1)) / 2**n
        return min(1.0, 2 * tail)

    def values(self) -> dict[str, float]:
        """Return the values to log."""
        return {"gained": float(self.n_gained), "lost": float(self.n_lost), "p_value": self.p_value}

    def __str__(self) -> str:
        """Format for a summary: `gained 9, lost 3 initial states; p = 0.15 (sign test)`."""
        return f"gained {self.n_gained}, lost {self.n_lost} initial states; p = {self.p_value:.2g} (sign test)"


def compare(first: Mapping[int, bool], second: Mapping[int, bool]) -> Paired:
    """Compare two policies on the initial states that both were evaluated on.

    Args:
        first: seed of the initial state -> whether the first policy solved it.
        second: the same of the second policy.
    """
    common = first.keys() & second.keys()
    return Paired(
        n_gained=sum(first[seed] and not second[seed] for seed in common),
        n_lost=sum(second[seed] and not first[seed] for seed in common),
    )
