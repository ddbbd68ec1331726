"""Point clouds as policies see them: the one function that demonstrations and environments share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

Raw = Mapping[str, npt.NDArray[Any]]
"""One observation by ManiSkill's names, e.g. "pointcloud/xyzw", "agent/qpos", "extra/tcp_pose"."""

FRAMES: dict[str, str | None] = {"end_effector": "extra/tcp_pose", "base": "agent/base_pose", "world": None}
"""The pose (x, y, z, and a quaternion w, x, y, z) that is the origin of each observation frame."""

RESOLUTION = 1e-4
"""Coordinates are whole multiples of it, in metres: a tenth of a millimetre fits 16 bits up to 3.2 m away."""

_GOAL_SIZE = 0.01
"""Half the edge of the cube that is filled with goal points, in metres (ManiSkill2-Learn)."""

_GOAL_COLOR = (0, 255, 0)

_POSITIONS = ("agent/base_pose", "extra/tcp_pose", "extra/goal_pos")


@dataclass(frozen=True)
class PointCloudRecipe:
    """How a camera's cloud becomes an observation, in this order.

    Points infinitely far away go first, then the ground; the rest is moved into the observation frame, cut to
    `max_distance`, and thinned out to `n_points` at random; where fewer are left, some are repeated. The defaults are
    those of ManiSkill2-Learn's point-cloud baselines, but for the goal points, which there come on top of the others.

    Args:
        n_points: number of points N, goal points included; 1200 in Table 7 of DiffTORI.
        frame: the origin of the points: `end_effector`, `base` or `world`.
        colors: give red, green and blue beside the coordinates.
        n_goal_points: how many of the points are spent on marking the goal, for tasks that observe `goal_pos`.
        robot_state: give `robot_state` as well: joint positions and velocities, the positions of base, end effector
            and goal in the frame, and whatever else the task observes.
        ground: points not higher than this are ground, in metres of the world; None keeps all.
        max_distance: points farther from the frame's origin are out of range, in metres; 3.2 at most.
    """

    n_points: int = 1200
    frame: str = "end_effector"
    colors: bool = True
    n_goal_points: int = 0
    robot_state: bool = True
    ground: float | None = 1e-4
    max_distance: float = 3.0

    def __post_init__(self) -> None:
        if self.frame not in FRAMES:
            raise DataError(f"the frame of a point cloud is one of {', '.join(FRAMES)}, got {self.frame!r}.")
        if not 0 <= self.n_goal_points < self.n_points:
            raise DataError(
                f"n_points={self.n_points} includes n_goal_points={self.n_goal_points}: leave at least one to see with."
            )
        if not 0 < self.max_distance <= 3.2:
            raise DataError(f"max_distance is above 0 and at most 3.2 m, got {self.max_distance}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Points and channels of an observation."""
        return self.n_points, 6 if self.colors else 3

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """What a unit of each channel stands for: metres, and shares of full colour; (C,)."""
        return np.array([RESOLUTION] * 3 + [1 / 255] * (self.shape[1] - 3), np.float32)

    def observe(self, raw: Raw, seed: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """Turn one observation of ManiSkill into one for a policy.

        Args:
            raw: `pointcloud/xyzw` (P, 4), with w = 0 for points infinitely far away, or `pointcloud/xyz` (P, 3), both
                in metres of the world; `pointcloud/rgb` (P, 3), 0 to 255; and what the recipe asks for.
            seed: fixes which points are kept, e.g. number of the episode and step.

        Returns:
            `point_cloud` (N, C) int16 in units of `scale`, and `robot_state` (D,) float32 if asked for.

        Raises:
            DataError: something is missing, a point is not a number, or no point is left.
        """
        rotation, origin = _pose(raw, self.frame)
        random = np.random.default_rng(list(seed))
        points, kept = self._cut(raw, rotation, origin)
        goal = self._goal_points(raw, random)
        chosen = _choose(len(points), self.n_points - len(goal), random)
        cloud = np.empty(self.shape, np.int16)
        cloud[: len(chosen), :3] = np.rint(points[chosen] / RESOLUTION)
        # A goal out of range is marked at its edge.
        moved = np.clip((goal - origin) @ rotation, -self.max_distance, self.max_distance)
        cloud[len(chosen) :, :3] = np.rint(moved / RESOLUTION)
        if self.colors:
            rgb = _required(raw, "pointcloud/rgb", "colors: false")[kept[chosen]]
            cloud[: len(chosen), 3:] = np.rint(255 * rgb) if rgb.dtype.kind == "f" else rgb  # ManiSkill1 has floats
            cloud[len(chosen) :, 3:] = _GOAL_COLOR
        if not self.robot_state:
            return {"point_cloud": cloud}
        return {"point_cloud": cloud, "robot_state": _robot_state(raw, rotation, origin)}

    def _cut(
        self, raw: Raw, rotation: npt.NDArray[Any], origin: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """The points in the frame that are neither far nor ground, and their numbers."""
        key = "pointcloud/xyzw" if "pointcloud/xyzw" in raw else "pointcloud/xyz"
        world = _required(raw, key, "obs_mode: pointcloud when recording")
        kept = np.flatnonzero(world[:, 3] > 0) if world.shape[1] == 4 else np.arange(len(world))
        found = world[kept, :3].astype(np.float64)
        if not np.isfinite(found).all():
            at = kept[np.argwhere(~np.isfinite(found))[0, 0]]
            raise DataError(f"point {at} of the cloud is {world[at]}: expected finite coordinates. Record it again.")
        if self.ground is not None:
            above = found[:, 2] > self.ground
            kept, found = kept[above], found[above]
        points = (found - origin) @ rotation
        near = np.linalg.norm(points, axis=1) <= self.max_distance
        if not near.any():
            raise DataError(
                f"no point is left of {len(world)}: {len(found)} are above the ground ({self.ground} m), none of them "
                f"within {self.max_distance} m of the {self.frame} frame. Change ground or max_distance."
            )
        return points[near], kept[near]

    def _goal_points(self, raw: Raw, random: np.random.Generator) -> npt.NDArray[Any]:
        """Points around the goal (G, 3), in the world."""
        if not self.n_goal_points:
            return np.zeros((0, 3))
        goal = _required(raw, "extra/goal_pos", "n_goal_points: 0")
        return goal + random.uniform(-_GOAL_SIZE, _GOAL_SIZE, (self.n_goal_points, 3))


def _required(raw: Raw, key: str, otherwise: str) -> npt.NDArray[Any]:
    if key not in raw:
        raise DataError(
            f"expected the observation {key}, found {', '.join(raw)}. Without it there is only {otherwise}."
        )
    return raw[key]


def _pose(raw: Raw, frame: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Rotation (3, 3) from the frame to the world, and origin (3,) of the frame."""
    key = FRAMES[frame]
    if key is None:
        return np.eye(3), np.zeros(3)
    pose = _required(raw, key, "frame: world").astype(np.float64)
    w, x, y, z = pose[3:] / np.linalg.norm(pose[3:])
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rotation), pose[:3]


def _choose(n_found: int, n_wanted: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Numbers of points: some of them, or all of them and some twice."""
    if n_found >= n_wanted:
        return random.choice(n_found, n_wanted, replace=False, shuffle=False)
    return np.concatenate([np.arange(n_found), random.integers(n_found, size=n_wanted - n_found)])


def _robot_state(raw: Raw, rotation: npt.NDArray[Any], origin: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if "state" in raw:  # ManiSkill1 gives one vector
        return raw["state"].astype(np.float32)
    joints = [_required(raw, key, "robot_state: false") for key in ("agent/qpos", "agent/qvel")]
    positions = [(raw[key][:3] - origin) @ rotation for key in _POSITIONS if key in raw]
    used = {"agent/qpos", "agent/qvel", *_POSITIONS}
    others = [raw[key] for key in sorted(raw) if key.startswith(("agent/", "extra/")) and key not in used]
    parts = [*joints, *positions, *others]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
