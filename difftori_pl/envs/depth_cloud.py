"""Point clouds from a depth camera: back-projected, cropped to the workspace, and thinned out evenly."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class DepthCloud:
    """How the depth picture of one camera becomes a cloud, after DP3 (arXiv:2403.03954).

    Points outside of a box are dropped, and with them table, floor and walls; farthest point sampling thins out the
    rest. The defaults suit Meta-World, whose table top is the plane z = 0; its camera `corner4` is where the authors of
    DiffTORI put theirs.

    Args:
        n_points: number of points N; 512 in DP3 and in the authors' code.
        camera: the model's name of the camera.
        image_size: height and width of the depth picture, in pixels; 84 in both.
        low: smallest x, y, z that is kept, in metres of the world.
        high: largest x, y, z that is kept.
    """

    n_points: int = 512
    camera: str = "corner4"
    image_size: int = 84
    low: tuple[float, float, float] = (-0.6, 0.2, 0.005)
    high: tuple[float, float, float] = (0.6, 1.1, 0.6)

    def __post_init__(self) -> None:
        if self.n_points < 1 or self.image_size < 1:
            raise ConfigurationError(
                f"n_points and image_size are at least 1, but {self.n_points} and {self.image_size} came"
            )
        if not np.less(self.low, self.high).all():
            raise ConfigurationError(f"the corner low must be below high, but {self.low} and {self.high} came")

    @property
    def settings(self) -> dict[str, Any]:
        """The arguments in plain values, as files and checkpoints keep them."""
        return {**asdict(self), "low": list(self.low), "high": list(self.high)}

    def observe(
        self, depth: NDArray[Any], position: NDArray[Any], rotation: NDArray[Any], field_of_view: float
    ) -> NDArray[np.float32]:
        """The cloud (N, 3), in metres of the world; where fewer points are left, they are repeated in turn.

        Args:
            depth: metres along the camera's axis (H, W), first row on top.
            position: the camera's, in metres of the world (3,).
            rotation: from the camera's frame to the world's (3, 3); it looks along its negative z, y is up.
            field_of_view: the vertical one, in degrees.

        Raises:
            ConfigurationError: nothing is left in the box.
        """
        points = _back_project(depth, field_of_view) @ rotation.T + position
        kept = points[np.all((points >= self.low) & (points <= self.high), axis=1)]
        if len(kept) == 0:
            raise ConfigurationError(
                f"camera {self.camera!r} sees nothing between {self.low} and {self.high}: choose another camera or box"
            )
        chosen = farthest_points(kept, min(self.n_points, len(kept)))
        return kept[np.resize(chosen, self.n_points)].astype(np.float32)


def farthest_points(points: NDArray[np.float64], n_points: int) -> NDArray[np.int64]:
    """Numbers of points that are spread evenly: each is the one farthest from those before it (n_points,).

    The first is the one farthest from the middle, so that nothing is left to chance.

    Args:
        points: (P, 3), P at least `n_points`.
        n_points: how many to choose.
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
    """Points (H * W, 3) in the camera's frame, in metres."""
    height, width = depth.shape
    focal = height / 2.0 / np.tan(np.deg2rad(field_of_view) / 2.0)
    right = (np.arange(width) + 0.5 - width / 2.0) / focal
    up = -(np.arange(height) + 0.5 - height / 2.0) / focal
    rays = np.stack(np.broadcast_arrays(right[None, :], up[:, None], -1.0), axis=-1)
    points: NDArray[np.float64] = (rays * depth[..., None]).reshape(-1, 3)
    return points
