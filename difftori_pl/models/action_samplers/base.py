"""Base class of action samplers."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from torch import Tensor

Energy = Callable[[Tensor], Tensor]
"""Maps actions (B, N, A) to energies (B, N); lower energy means higher probability."""


class ActionSampler(ABC):
    """Base class of samplers, which move action samples towards low energy."""

    @abstractmethod
    def sample(self, energy: Energy, actions: Tensor) -> Tensor:
        """Move `actions` (B, N, A) in [-1, 1] towards low energy and return them; the best of them is executed."""

    def counter_examples(self, energy: Energy, actions: Tensor) -> Tensor:
        """Turn uniform `actions` (B, N, A) into counter-examples for training; by default, return them unchanged."""
        del energy
        return actions
