"""Log images and videos at growing intervals, so that the size of a log stays bounded."""


class Spacing:
    """Select steps for logging: the first, and each once the step count has grown by `fraction` since the last.

    The number of images grows with the logarithm of the step count. TensorBoard shows at most ten per tag.

    Args:
        fraction: relative growth of the step count, 0.1 for a tenth; 0 selects every step.
    """

    def __init__(self, fraction: float) -> None:
        self.fraction = fraction
        self.last = 0

    def due(self, step: int) -> bool:
        """Return whether to log after `step` steps of training, and remember the step if so."""
        due = self.last == 0 or step >= (1 + self.fraction) * self.last
        if due:
            self.last = step
        return due
