"""Preprocessing of point clouds, shared by demonstrations and environments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

Raw = Mapping[str, npt.NDArray[Any]]
"""One raw observation, keyed by ManiSkill's names, e.g. "pointcloud/xyzw", "agent/qpos", "extra/tcp_pose"."""

FRAMES: dict[str, str | None] = {"end_effector": "extra/tcp_pose", "base": "agent/base_pose", "world": None}
"""The key of the pose (x, y, z and a quaternion w, x, y, z) that defines each observation frame."""

RESOLUTION = 1e-4
"""Resolution of coordinates in metres; at 0.1 mm, 16 bits cover distances up to 3.2 m."""

_GOAL_SIZE = 0.01
"""Half the edge of the cube of goal points, in metres (ManiSkill2-Learn)."""

_GOAL_COLOR = (0, 255, 0)

_POSITIONS = ("agent/base_pose", "extra/tcp_pose", "extra/goal_pos")


@dataclass(frozen=True)
class PointCloudRecipe:
    """Settings of the conversion from a camera's point cloud to an observation.

    The conversion removes points at infinity, removes the ground, transforms the rest to the observation frame, removes
    points beyond `max_distance`, and samples `n_points` at random; if fewer are left, some are repeated. The defaults
    are those of ManiSkill2-Learn's point-cloud baselines, except that goal points there are added to `n_points`.

    Args:
        n_points: number of points N, including goal points; 1200 in Table 7 of DiffTORI.
        frame: the observation frame: `end_effector`, `base` or `world`.
        colors: add red, green and blue to the coordinates.
        n_goal_points: number of points that mark the goal, for tasks that observe `goal_pos`.
        robot_state: add the observation `robot_state`: joint positions and velocities, the positions of base, end
            effector and goal in the observation frame, and all other low-dim observations of the task.
        ground: points at or below this height in the world frame are ground, in metres; None keeps them.
        max_distance: maximum distance of a point from the frame's origin, in metres; at most 3.2.

    Raises:
        DataError: an argument is out of range.
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
            raise DataError(
                f"expected the frame of a point cloud to be one of {', '.join(FRAMES)}, got {self.frame!r}."
            )
        if not 0 <= self.n_goal_points < self.n_points:
            raise DataError(
                f"expected 0 <= n_goal_points < n_points, got n_goal_points={self.n_goal_points} and "
                f"n_points={self.n_points}."
            )
        if not 0 < self.max_distance <= 3.2:
            raise DataError(f"max_distance must be above 0 and at most 3.2 m, got {self.max_distance}.")

    @property
    def shape(self) -> tuple[int, int]:
        """Numbers of points N and channels C of an observation."""
        return self.n_points, 6 if self.colors else 3

    @property
    def scale(self) -> npt.NDArray[np.float32]:
        """Factor (C,) that converts stored integers to metres and to colours from 0 to 1."""
        return np.array([RESOLUTION] * 3 + [1 / 255] * (self.shape[1] - 3), np.float32)

    def observe(self, raw: Raw, seed: Sequence[int]) -> dict[str, npt.NDArray[Any]]:
        """Convert a raw observation of ManiSkill to an observation for a policy.

        Args:
            raw: `pointcloud/xyzw` (P, 4), with w = 0 for points at infinity, or `pointcloud/xyz` (P, 3), in metres in
                the world frame; `pointcloud/rgb` (P, 3), 0 to 255; and the other observations that the recipe needs.
            seed: seed of the point sampling, e.g. the episode number and the step.

        Returns:
            `point_cloud` (N, C) int16 in units of `scale`, and `robot_state` (D,) float32 if the recipe has it.

        Raises:
            DataError: an observation is missing, a coordinate is not finite, or no point is left.
        """
        rotation, origin = _pose(raw, self.frame)
        random = np.random.default_rng(list(seed))
        points, kept = self._cut(raw, rotation, origin)
        goal = self._goal_points(raw, random)
        chosen = _choose(len(points), self.n_points - len(goal), random)
        cloud = np.empty(self.shape, np.int16)
        cloud[: len(chosen), :3] = np.rint(points[chosen] / RESOLUTION)
        # A goal out of range is clipped to the limit.
        moved = np.clip((goal - origin) @ rotation, -self.max_distance, self.max_distance)
        cloud[len(chosen) :, :3] = np.rint(moved / RESOLUTION)
        if self.colors:
            rgb = _required(raw, "pointcloud/rgb", "Record it, or set colors: false.")[kept[chosen]]
            cloud[: len(chosen), 3:] = np.rint(255 * rgb) if rgb.dtype.kind == "f" else rgb  # ManiSkill1 stores floats
            cloud[len(chosen) :, 3:] = _GOAL_COLOR
        if not self.robot_state:
            return {"point_cloud": cloud}
        return {"point_cloud": cloud, "robot_state": _robot_state(raw, rotation, origin)}

    def _cut(
        self, raw: Raw, rotation: npt.NDArray[Any], origin: npt.NDArray[Any]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Return the points in the frame that are above ground and in range, and their indices in the raw cloud."""
        key = "pointcloud/xyzw" if "pointcloud/xyzw" in raw else "pointcloud/xyz"
        world = _required(raw, key, "Record it with obs_mode pointcloud.")
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
        """Sample points around the goal (G, 3), in the world frame."""
        if not self.n_goal_points:
            return np.zeros((0, 3))
        goal = _required(raw, "extra/goal_pos", "Record it, or set n_goal_points: 0.")
        return goal + random.uniform(-_GOAL_SIZE, _GOAL_SIZE, (self.n_goal_points, 3))


def _required(raw: Raw, key: str, advice: str) -> npt.NDArray[Any]:
    if key not in raw:
        raise DataError(f"expected the observation {key}, found {', '.join(raw)}. {advice}")
    return raw[key]


def _pose(raw: Raw, frame: str) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the rotation (3, 3) from the frame to the world and the origin (3,) of the frame."""
    key = FRAMES[frame]
    if key is None:
        return np.eye(3), np.zeros(3)
    pose = _required(raw, key, "Record it, or set frame: world.").astype(np.float64)
    w, x, y, z = pose[3:] / np.linalg.norm(pose[3:])
    rotation = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rotation), pose[:3]


def _choose(n_found: int, n_wanted: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """Sample point indices; if there are too few points, return all of them and repeat some."""
    if n_found >= n_wanted:
        return random.choice(n_found, n_wanted, replace=False, shuffle=False)
    return np.concatenate([np.arange(n_found), random.integers(n_found, size=n_wanted - n_found)])


def _robot_state(raw: Raw, rotation: npt.NDArray[Any], origin: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    if "state" in raw:  # ManiSkill1 stores one vector
        return raw["state"].astype(np.float32)
    joints = [_required(raw, key, "Record it, or set robot_state: false.") for key in ("agent/qpos", "agent/qvel")]
    positions = [(raw[key][:3] - origin) @ rotation for key in _POSITIONS if key in raw]
    used = {"agent/qpos", "agent/qvel", *_POSITIONS}
    others = [raw[key] for key in sorted(raw) if key.startswith(("agent/", "extra/")) and key not in used]
    parts = [*joints, *positions, *others]
    return np.concatenate([np.ravel(part) for part in parts]).astype(np.float32)
