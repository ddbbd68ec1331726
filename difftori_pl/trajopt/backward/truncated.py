"""The gradient of the last few steps, as published."""

from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.solvers.base import check_positive


class Truncated(LastSteps):
    """Differentiate through the last `n_steps` steps of each element; the iterate before them counts as a constant.

    The gradient is biased towards zero, less so with more steps (on a quadratic return by 23 % with 5 steps and 0.6 %
    with 20). Memory grows with `n_steps` only. Initial actions get no gradient, unless `n_steps` covers the whole
    solve; then the mode equals `Unroll`. An element that meets the solver's `grad_tolerance` in fewer than `n_steps`
    steps is differentiated through all of them. If any element stops early, the solve runs twice, because its last
    steps are known only at its end.

    Args:
        n_steps: number of differentiated steps; the authors use 5.
    """

    def __init__(self, n_steps: int = 5) -> None:
        check_positive(n_steps=n_steps)
        self.n_steps = n_steps

    def n_differentiated(self, max_steps: int) -> int:
        """Return `n_steps`, or `max_steps` if that is smaller."""
        return min(self.n_steps, max_steps)
