"""Point-cloud observations, compared with an independent computation."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from datamodules.errors import DataError
from datamodules.point_cloud import RESOLUTION, PointCloudRecipe
from tests.data import _raw_clouds

SEED = (3, 4)


@pytest.fixture
def raw() -> dict[str, np.ndarray]:
    values = _raw_clouds(np.random.default_rng(0), 1, 300)
    return {name: series[0] for name, series in values.items()}


def expected_points(raw: dict[str, np.ndarray], frame: str) -> np.ndarray:
    """Compute the points above the ground in the frame, with scipy's rotations."""
    xyzw = raw["pointcloud/xyzw"].astype(float)
    points = xyzw[(xyzw[:, 3] > 0) & (xyzw[:, 2] > 1e-4), :3]
    if frame == "world":
        return points
    pose = raw[{"end_effector": "extra/tcp_pose", "base": "agent/base_pose"}[frame]].astype(float)
    return Rotation.from_quat(pose[[4, 5, 6, 3]]).inv().apply(points - pose[:3])


@pytest.mark.parametrize("frame", ["end_effector", "base", "world"])
def test_points_above_the_ground_are_transformed_to_the_frame(raw: dict[str, np.ndarray], frame: str) -> None:
    expected = expected_points(raw, frame)
    recipe = PointCloudRecipe(len(expected), frame, colors=False)
    cloud = recipe.observe(raw, SEED)["point_cloud"] * recipe.scale
    order = np.lexsort(np.rint(expected / RESOLUTION).T)
    found = cloud[np.lexsort(np.rint(cloud / RESOLUTION).T)]
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=0.51 * RESOLUTION)


def test_a_seed_fixes_a_sample_without_repetition(raw: dict[str, np.ndarray]) -> None:
    recipe = PointCloudRecipe(50)
    clouds = [recipe.observe(raw, seed)["point_cloud"] for seed in (SEED, SEED, (3, 5))]
    np.testing.assert_array_equal(clouds[0], clouds[1])
    assert not np.array_equal(clouds[0], clouds[2])
    assert len(np.unique(clouds[0], axis=0)) == 50


def test_colors_stay_with_their_points(raw: dict[str, np.ndarray]) -> None:
    # Red encodes x, so that a colour at the wrong point is detected.
    raw["pointcloud/rgb"][:, 0] = np.rint(255 * (raw["pointcloud/xyzw"][:, 0] + 0.5))
    recipe = PointCloudRecipe(40, "world")
    cloud = recipe.observe(raw, SEED)["point_cloud"] * recipe.scale
    np.testing.assert_allclose(cloud[:, 3], cloud[:, 0] + 0.5, atol=0.01)


def test_points_are_repeated_if_there_are_too_few(raw: dict[str, np.ndarray]) -> None:
    expected = expected_points(raw, "end_effector")
    recipe = PointCloudRecipe(1200, colors=False)
    cloud = recipe.observe(raw, SEED)["point_cloud"]
    assert cloud.shape == (1200, 3)
    assert {*map(tuple, cloud)} == {*map(tuple, np.rint(expected / RESOLUTION).astype(int))}


def test_goal_points_mark_the_goal(raw: dict[str, np.ndarray]) -> None:
    recipe = PointCloudRecipe(100, "world", n_goal_points=20)
    cloud = recipe.observe(raw, SEED)["point_cloud"] * recipe.scale
    assert np.abs(cloud[-20:, :3] - raw["extra/goal_pos"]).max() <= 0.01 + RESOLUTION
    np.testing.assert_allclose(cloud[-20:, 3:], np.tile([0, 1, 0], (20, 1)), atol=1e-6)


def test_robot_state_is_joints_and_positions_in_the_frame(raw: dict[str, np.ndarray]) -> None:
    state = PointCloudRecipe().observe(raw, SEED)["robot_state"]
    pose = raw["extra/tcp_pose"].astype(float)
    goal = Rotation.from_quat(pose[[4, 5, 6, 3]]).inv().apply(raw["extra/goal_pos"] - pose[:3])
    np.testing.assert_array_equal(state[:9], raw["agent/qpos"])
    np.testing.assert_array_equal(state[9:18], raw["agent/qvel"])
    np.testing.assert_allclose(state[21:24], np.zeros(3), atol=1e-7)
    np.testing.assert_allclose(state[24:27], goal, atol=1e-6)


def test_out_of_range_points_are_removed(raw: dict[str, np.ndarray]) -> None:
    raw["pointcloud/xyzw"][4, :3] = (2.9, 0, 1)
    recipe = PointCloudRecipe(1200, "world", max_distance=1.0)
    cloud = recipe.observe(raw, SEED)["point_cloud"] * recipe.scale
    assert np.linalg.norm(cloud[:, :3], axis=1).max() <= 1.0 + RESOLUTION


def test_error_for_an_empty_cloud_counts_the_removed_points(raw: dict[str, np.ndarray]) -> None:
    with pytest.raises(DataError, match=r"no point is left of 300: 199 are above the ground"):
        PointCloudRecipe(max_distance=0.001).observe(raw, SEED)
    with pytest.raises(DataError, match=r"no point is left of 300: 0 are above the ground \(9 m\)"):
        PointCloudRecipe(ground=9).observe(raw, SEED)


def test_error_names_a_point_that_is_not_finite(raw: dict[str, np.ndarray]) -> None:
    raw["pointcloud/xyzw"][7, 1] = np.nan
    with pytest.raises(DataError, match=r"point 7 of the cloud is .*nan"):
        PointCloudRecipe().observe(raw, SEED)


def test_error_names_a_missing_observation(raw: dict[str, np.ndarray]) -> None:
    del raw["extra/tcp_pose"], raw["extra/goal_pos"]
    with pytest.raises(DataError, match=r"expected the observation extra/tcp_pose"):
        PointCloudRecipe().observe(raw, SEED)
    with pytest.raises(DataError, match=r"expected the observation extra/goal_pos"):
        PointCloudRecipe(frame="world", n_goal_points=5).observe(raw, SEED)


@pytest.mark.parametrize(
    "arguments", [{"frame": "camera"}, {"n_points": 10, "n_goal_points": 10}, {"max_distance": 5.0}]
)
def test_arguments_out_of_range_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DataError, match=str(next(reversed(arguments.values())))):
        PointCloudRecipe(**arguments)
