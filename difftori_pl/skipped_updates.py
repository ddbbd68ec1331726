"""Updates that are skipped because their gradient is not finite."""

from torch import Tensor

from difftori_pl.errors import DivergenceError

MAX_IN_A_ROW = 100
"""Float16 finds its loss scale in fewer."""


class SkippedUpdates:
    """Decide whether to take an update, and count those that are skipped.

    A single NaN in a gradient would reach all weights.

    Attributes:
        count: number of skipped updates in this process since the start of the program.
    """

    def __init__(self) -> None:
        self.count = 0
        self._in_a_row = 0

    def admits(self, norm: Tensor) -> bool:
        """Return whether an update may be taken.

        Args:
            norm: norm of its gradient, a scalar; the same in all processes.

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
