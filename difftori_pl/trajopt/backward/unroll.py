"""The exact gradient of the steps taken."""

from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.solvers.base import check_positive


class Unroll(LastSteps):
    """Differentiate through every step, back to the initial actions.

    Exact for the number of steps taken, converged or not. Memory grows with that number, or with its square root if
    `segment` is about that: then the activations of a segment are computed again in the backward pass, which costs a
    second solve.

    Args:
        segment: number of steps between two iterates that are kept; None keeps all activations.
    """

    def __init__(self, segment: int | None = None) -> None:
        if segment is not None:
            check_positive(segment=segment)
        self.segment = segment

    def n_differentiated(self, max_steps: int) -> int:
        """Give `max_steps`."""
        return max_steps
