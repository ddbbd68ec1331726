"""Point clouds from a depth camera: back-projected, cropped to the workspace and downsampled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class DepthCloud:
    """Settings that turn the depth image of one camera into a point cloud, after DP3 (arXiv:2403.03954).

    Points outside a box are dropped, which removes table, floor and walls. Farthest point sampling downsamples the
    rest. The defaults suit Meta-World, whose table top is the plane z = 0. Its camera `corner4` has the same position
    as the camera of DiffTORI's authors.

    Args:
        n_points: number of points N; 512 in DP3 and in the authors' code.
        camera: name of the camera in the MuJoCo model.
        image_size: height and width of the depth image, in pixels; 84 in DP3 and in the authors' code.
        low: lower corner x, y, z of the box, in metres in the world frame.
        high: upper corner x, y, z of the box, in metres in the world frame.
    """

    n_points: int = 512
    camera: str = "corner4"
    image_size: int = 84
    low: tuple[float, float, float] = (-0.6, 0.2, 0.005)
    high: tuple[float, float, float] = (0.6, 1.1, 0.6)

    def __post_init__(self) -> None:
        if self.n_points < 1 or self.image_size < 1:
            raise ConfigurationError(
                f"n_points and image_size must be at least 1, got {self.n_points} and {self.image_size}"
            )
        if not np.less(self.low, self.high).all():
            raise ConfigurationError(f"low must be below high in x, y and z, got {self.low} and {self.high}")

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments as JSON types, as stored in files and checkpoints."""
        return {**asdict(self), "low": list(self.low), "high": list(self.high)}

    def observe(
        self, depth: NDArray[Any], position: NDArray[Any], rotation: NDArray[Any], field_of_view: float
    ) -> NDArray[np.float32]:
        """Compute the cloud (N, 3), in metres in the world frame; points are repeated if fewer than N remain.

        Args:
            depth: distance along the camera's optical axis (H, W), in metres, first row at the top.
            position: camera position (3,), in metres in the world frame.
            rotation: rotation from the camera frame to the world frame (3, 3); the camera looks along -z, y is up.
            field_of_view: vertical field of view, in degrees.

        Raises:
            ConfigurationError: no point is inside the box.
        """
        points = _back_project(depth, field_of_view) @ rotation.T + position
        kept = points[np.all((points >= self.low) & (points <= self.high), axis=1)]
        if len(kept) == 0:
            raise ConfigurationError(
                f"camera {self.camera!r} sees no point between {self.low} and {self.high}: choose another camera or box"
            )
        chosen = farthest_points(kept, min(self.n_points, len(kept)))
        return kept[np.resize(chosen, self.n_points)].astype(np.float32)


def farthest_points(points: NDArray[np.float64], n_points: int) -> NDArray[np.int64]:
    """Select points by farthest point sampling; return their indices (n_points,).

    The first point is the one farthest from the centroid, so the result is deterministic.

    Args:
        points: (P, 3), with P at least `n_points`.
        n_points: number of points to select.
    """
    chosen = np.empty(n_points, np.int64)
    squared = np.square(points - points.mean(axis=0)).sum(axis=1)
    nearest = np.full(len(points), np.inf)
    for number in range(n_points):
        chosen[number] = squared.argmax() if number == 0 else nearest.argmax()
        squared = np.square(points - points[chosen[number]]).sum(axis=1)
        np.minimum(nearest, squared, out=nearest)
    return chosen


def _back_project(depth: NDArray[Any], field_of_view: float) -> NDArray[np.float64]:
    """Convert depth (H, W) to points (H * W, 3) in the camera frame, in metres."""
    height, width = depth.shape
    focal = height / 2.0 / np.tan(np.deg2rad(field_of_view) / 2.0)
    right = (np.arange(width) + 0.5 - width / 2.0) / focal
    up = -(np.arange(height) + 0.5 - height / 2.0) / focal
    rays = np.stack(np.broadcast_arrays(right[None, :], up[:, None], -1.0), axis=-1)
    points: NDArray[np.float64] = (rays * depth[..., None]).reshape(-1, 3)
    return points
