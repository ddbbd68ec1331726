"""Skipping of updates whose gradient is not finite."""

from torch import Tensor

from difftori_pl.errors import DivergenceError

MAX_IN_A_ROW = 100
"""Limit of consecutive skipped updates; the loss scaling of float16 needs fewer to adapt."""


class SkippedUpdates:
    """Decide whether to apply an update, and count the skipped ones.

    A single NaN in a gradient would spread to all weights.

    Attributes:
        count: number of skipped updates in this process since the start of the program.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0

    def admits(self, norm: Tensor) -> bool:
        """Return whether an update may be applied.

        Args:
            norm: norm of its gradient, a scalar that is the same in all processes.

        Raises:
            DivergenceError: too many consecutive gradients were not finite.
        """
        if norm.isfinite():
            self._in_a_row = 0
            return True
        self.count += 1
        self._in_a_row += 1
        if self._in_a_row > MAX_IN_A_ROW:
            raise DivergenceError(
                f"the gradients of {self._in_a_row} consecutive updates were not finite, and the weights were left "
                "unchanged: resume from the last checkpoint with a smaller learning rate or step_size, or in float32"
            )
        return False
