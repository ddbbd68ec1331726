"""The exact gradient of the steps taken."""

from difftori_pl.trajopt.backward.last_steps import LastSteps


class Unroll(LastSteps):
    """Differentiate through every step, back to the initial actions.

    Exact for the number of steps taken, converged or not. Memory grows with that number.
    """

    def n_differentiated(self, max_steps: int) -> int:
        """Give `max_steps`."""
        return max_steps
