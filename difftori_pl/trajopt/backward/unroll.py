"""The exact gradient of all steps."""

from difftori_pl.trajopt.backward.last_steps import LastSteps


class Unroll(LastSteps):
    """Differentiate through every step, back to the initial actions.

    Exact for the number of steps taken, converged or not. Memory grows with the number of steps.

    Args:
        recompute: whether to store the iterates only and recompute the activations of each step in the backward pass
            (activation checkpointing): memory of a single step, but three evaluations per step instead of one.
    """

    def __init__(self, recompute: bool = False) -> None:
        self.recompute = recompute

    def n_differentiated(self, max_steps: int) -> int:
        """Return `max_steps`."""
        return max_steps
