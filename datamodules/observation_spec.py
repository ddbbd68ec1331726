"""What one observation is: the same statement from the data to the deployed policy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ObservationSpec:
    """Kind, shape and type of one step of an observation.

    Attributes:
        kind: "image", "point_cloud", or "vector" for any other array of numbers.
        shape: of one step: (channels, height, width) for images, (points, channels) for point clouds.
        dtype: "uint8" for images, "float32" for the others.
    """

    kind: Literal["vector", "image", "point_cloud"]
    shape: tuple[int, ...]
    dtype: Literal["float32", "uint8"] = "float32"

    @classmethod
    def vector(cls, *shape: int) -> ObservationSpec:
        """Numbers in the unit of the key, (dim,) or of more dimensions."""
        return cls("vector", shape)

    @classmethod
    def image(cls, n_channels: int, height: int, width: int) -> ObservationSpec:
        """Pixels from 0 to 255, the channels first."""
        return cls("image", (n_channels, height, width), "uint8")

    @classmethod
    def point_cloud(cls, n_points: int, n_channels: int) -> ObservationSpec:
        """Points in no order; coordinates in metres, and perhaps colours."""
        return cls("point_cloud", (n_points, n_channels))

    def __str__(self) -> str:
        return f"{self.shape} ({self.kind}, {self.dtype})"
