"""The gradient of the last few steps: the published mode."""

from difftori_pl.trajopt.backward.last_steps import LastSteps
from difftori_pl.trajopt.solvers.base import check_positive


class Truncated(LastSteps):
    """Differentiate through the last `n_steps` steps; the iterate before them counts as a constant.

    Biased towards zero, the less so the more steps (on a quadratic return, by 23 % with 5 steps and 0.6 % with 20);
    memory grows with `n_steps` only. Initial actions get no gradient, unless `n_steps` covers the whole solve: then
    this is `Unroll`. Elements that are done before the last steps still take those, so as to have a gradient.

    Args:
        n_steps: how many steps; the authors take 5.
    """

    def __init__(self, n_steps: int = 5) -> None:
        check_positive(n_steps=n_steps)
        self.n_steps = n_steps

    def n_differentiated(self, max_steps: int) -> int:
        """Give `n_steps`, or `max_steps` if that is less."""
        return min(self.n_steps, max_steps)
