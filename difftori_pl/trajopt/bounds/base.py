"""What every treatment of action bounds offers."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.part import Part


class Bounds(Part, ABC):
    """How the solver's iterate relates to actions within their limits.

    The solver moves an *iterate* (B, H, A). Three maps tie it to actions: where to start, what happens after each
    step, and which actions an iterate stands for. The objective sees, and the layer returns, the latter.
    """

    @abstractmethod
    def to_iterate(self, actions: Tensor) -> Tensor:
        """Give the iterate to start from for initial `actions` (B, H, A)."""

    @abstractmethod
    def project(self, iterate: Tensor) -> Tensor:
        """Bring an `iterate` (B, H, A) back after a step."""

    @abstractmethod
    def to_actions(self, iterate: Tensor) -> Tensor:
        """Give the actions (B, H, A) that an `iterate` stands for."""

    def active(self, iterate: Tensor, gradient: Tensor) -> Tensor:
        """Mark the components that a step along `gradient` cannot move, boolean (B, H, A)."""
        del gradient
        return torch.zeros_like(iterate, dtype=torch.bool)


def check_box(low: float, high: float) -> None:
    """Refuse an empty box.

    Raises:
        ConfigurationError: `low` is not below `high`.
    """
    if not low < high:
        raise ConfigurationError(f"bounds need low < high, got low={low} and high={high}")
