"""Standardisation of low-dimensional observations, with statistics saved in the checkpoint."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError

MIN_ACTION_STD = 0.01
"""Standard deviation below which an action component counts as unused by the demonstrations."""


MAX_MISMATCH = 30.0
"""Largest ratio of spreads, and distance of means in spreads, of data in the same units; a radian is 57 degrees."""


class Statistics(Protocol):
    """Statistics of one key from a datamodule, as float32 tensors of the key's shape."""

    @property
    def mean(self) -> Tensor:
        """Mean over the training steps, in the key's unit."""

    @property
    def std(self) -> Tensor:
        """Standard deviation over the training steps, in the key's unit."""


class Normalizer(nn.Module):
    """Subtract the training mean and divide by the training standard deviation, key by key.

    It is the identity until `fit` is called. The statistics are buffers and thus part of a checkpoint.

    Args:
        dims: size of each low-dimensional observation key.
        min_std: lower bound of the standard deviation, in the key's unit. Without it, a coordinate that is constant in
            the demonstrations would be scaled up without limit in a rollout.
        masked_components: indices, from 0, of the components of each key that are hidden from the policy; they are
            replaced by their mean.

    Raises:
        ConfigurationError: `masked_components` names a key or component that does not exist.
    """

    fitted: Tensor

    def __init__(
        self,
        dims: Mapping[str, int],
        min_std: float = 1e-3,
        masked_components: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        super().__init__()
        self.masked_components = dict(masked_components or {})
        for key, components in self.masked_components.items():
            if key not in dims or not all(0 <= component < dims[key] for component in components):
                raise ConfigurationError(
                    f"masked_components must hold indices, from 0, of components of {dict(dims)}, got "
                    f"{{{key!r}: {list(components)}}}"
                )
        self.keys = tuple(dims)
        self.min_std = min_std
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        for key, dim in dims.items():
            self.register_buffer(f"{key}_mean", torch.zeros(dim))
            self.register_buffer(f"{key}_std", torch.ones(dim))
        for key, components in self.masked_components.items():
            is_masked = torch.zeros(dims[key], dtype=torch.bool)
            is_masked[list(components)] = True
            self.register_buffer(f"{key}_is_masked", is_masked, persistent=False)

    def fit(self, statistics: Mapping[str, Statistics]) -> None:
        """Copy mean and standard deviation of every key from `statistics`."""
        for key in self.keys:
            self.get_buffer(f"{key}_mean").copy_(statistics[key].mean)
            self.get_buffer(f"{key}_std").copy_(statistics[key].std.clamp(min=self.min_std))
        self.fitted.fill_(True)

    def mismatch(self, statistics: Mapping[str, Statistics]) -> str:
        """Return a description of the first mismatched key, or an empty string.

        A key is mismatched if its spread or mean differs so much from the fitted statistics that its unit must have
        changed, for instance from fractions to pixels or from metres to millimetres.
        """
        for key in self.keys:
            mean, std = self.get_buffer(f"{key}_mean").cpu(), self.get_buffer(f"{key}_std").cpu()
            new = statistics[key]
            fitted, spread = float(std.norm()), float(new.std.clamp(min=self.min_std).norm())
            distance = float((new.mean - mean).norm())
            if max(distance / fitted, spread / fitted, fitted / spread) > MAX_MISMATCH:
                return (
                    f"{key} with a spread of {fitted:.3g}, got a spread of {spread:.3g} and a mean that differs by "
                    f"{distance:.3g}"
                )
        return ""

    def std(self, key: str) -> Tensor:
        """Return the standard deviation (dim,) of a key, in its unit; 1 before `fit`."""
        return self.get_buffer(f"{key}_std")

    def is_masked(self, key: str) -> Tensor:
        """Return a mask (dim,) of the components of a key that are replaced by their mean."""
        if key in self.masked_components:
            return self.get_buffer(f"{key}_is_masked")
        return torch.zeros_like(self.std(key), dtype=torch.bool)

    def restore(self, key: str, standardised: Tensor) -> Tensor:
        """Invert the standardisation: map values (..., dim) of a key back to its unit."""
        return self.get_buffer(f"{key}_mean") + self.std(key) * standardised

    def forward(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Standardise the keys in `dims`, tensors (..., dim) in the key's unit; omit other keys."""
        return {key: self._standardise(key, obs[key]) for key in self.keys}

    def _standardise(self, key: str, value: Tensor) -> Tensor:
        standardised = (value - self.get_buffer(f"{key}_mean")) / self.std(key)
        if key not in self.masked_components:
            return standardised
        # Masked components may be NaN; multiplying by zero would keep it.
        return standardised.masked_fill(self.get_buffer(f"{key}_is_masked"), 0.0)
