"""The exact gradient of the steps taken."""

from difftori_pl.trajopt.backward.last_steps import LastSteps


class Unroll(LastSteps):
    """Differentiate through every step, back to the initial actions.

    Exact for the number of steps taken, converged or not. Memory grows with that number.

    Args:
        recompute: whether to keep the iterates only (activation checkpointing), and compute the activations of a step
            again when they are needed: the memory of a single step, for three evaluations per step instead of one.
    """

    def __init__(self, recompute: bool = False) -> None:
        self.recompute = recompute

    def n_differentiated(self, max_steps: int) -> int:
        """Give `max_steps`."""
        return max_steps
