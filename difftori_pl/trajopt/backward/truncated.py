"""The gradient of the last few steps: the published mode."""

from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.solvers.base import check_positive


class Truncated(LastSteps):
    """Differentiate through the last `n_steps` steps of each element; the iterate before them counts as a constant.

    Biased towards zero, the less so the more steps (on a quadratic return, by 23 % with 5 steps and 0.6 % with 20);
    memory grows with `n_steps` only. Initial actions get no gradient, unless `n_steps` covers the whole solve: then
    this is `Unroll`. An element that takes fewer steps, because it meets the solver's `grad_tolerance`, is
    differentiated through all of them. If any element stops early, the solve runs twice: its last steps are known only
    at its end.

    Args:
        n_steps: number of steps; the authors take 5.
    """

    def __init__(self, n_steps: int = 5) -> None:
        check_positive(n_steps=n_steps)
        self.n_steps = n_steps

    def n_differentiated(self, max_steps: int) -> int:
        """Give `n_steps`, or `max_steps` if that is less."""
        return min(self.n_steps, max_steps)
