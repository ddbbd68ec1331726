"""The backward mode without a gradient."""

from difftori_pl.trajopt.backward.last_steps import LastSteps


class Detached(LastSteps):
    """Solve without a graph, for acting and for losses that do not train through the solver."""

    differentiable = False

    def n_differentiated(self, max_steps: int) -> int:
        """Return 0."""
        del max_steps
        return 0
