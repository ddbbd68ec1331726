"""The base class of action samplers."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

Energy = Callable[[Tensor], Tensor]
"""Maps actions (B, N, A) to energies (B, N); an action is the likelier, the lower its energy."""


class ActionSampler(ABC):
    """Moves samples of actions to where an energy is low."""

    @abstractmethod
    def sample(self, energy: Energy, actions: Tensor) -> Tensor:
        """Improve `actions` (B, N, A) in [-1, 1] and return as many, from which the best is executed."""

    def counter_examples(self, energy: Energy, actions: Tensor) -> Tensor:
        """Turn uniform `actions` (B, N, A) into counter-examples for training; they stay as they are by default."""
        del energy
        return actions
