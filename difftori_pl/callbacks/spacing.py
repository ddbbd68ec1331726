"""Pictures of a training that goes on: ever further apart, so that what is logged of it does not grow without bound."""


class Spacing:
    """Which of many evaluations leave pictures: the first, and each once training is by a share longer than then.

    The number of pictures grows as the logarithm of the training's length. TensorBoard shows ten of a kind at most.

    Args:
        share: 0.1 for a tenth longer; 0 for pictures of every evaluation.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.last = 0

    def due(self, step: int) -> bool:
        """Whether pictures are due after `step` steps of training; they count as taken if so."""
        due = self.last == 0 or step >= (1 + self.share) * self.last
        if due:
            self.last = step
        return due
