"""Checks of the recipe, which need no simulator, and the geometry of point clouds."""

import numpy as np
import pytest

from difftori_pl.envs import DepthCloud, MetaWorld
from difftori_pl.envs.depth_cloud import farthest_points
from difftori_pl.errors import ConfigurationError

DOWNWARDS = np.eye(3)
"""A camera that looks along the world's negative z."""


def test_invalid_recipes_are_rejected() -> None:
    with pytest.raises(ConfigurationError, match=r"obs_keys must be among state, agent_pos, point_cloud.*'image'"):
        MetaWorld(obs_keys=["state", "image"])
    with pytest.raises(ConfigurationError, match="max_episode_steps must be 1 to 500, got 501"):
        MetaWorld(max_episode_steps=501)
    with pytest.raises(ConfigurationError, match="n_points and image_size must be at least 1, got 0"):
        DepthCloud(n_points=0)
    with pytest.raises(ConfigurationError, match="low must be below high"):
        DepthCloud(low=(0.0, 0.0, 1.0), high=(1.0, 1.0, 0.5))


def test_the_interface_describes_the_cloud_only_if_it_is_observed() -> None:
    assert MetaWorld("push-v3", ["state"]).interface == {"env_id": "push-v3"}
    assert MetaWorld("push-v3", cloud=DepthCloud(n_points=9)).interface["n_points"] == 9


def test_a_plane_is_back_projected_to_its_position() -> None:
    # From 2 m above, 90 degrees cover 4 m of the floor, so the centres of four pixels are 1 m apart.
    cloud = DepthCloud(n_points=16, image_size=4, low=(-9.0, -9.0, -9.0), high=(9.0, 9.0, 9.0))
    points = cloud.observe(np.full((4, 4), 2.0), np.array([1.0, 2.0, 2.0]), DOWNWARDS, 90.0)
    grid = np.array([-1.5, -0.5, 0.5, 1.5])
    expected = {(1.0 + x, 2.0 + y, 0.0) for x in grid for y in grid}
    assert {tuple(np.round(point, 6).tolist()) for point in points} == expected
    assert points.dtype == np.float32


def test_the_first_row_of_the_depth_image_is_the_top() -> None:
    depth = np.full((4, 4), 9.0)
    depth[0, 3] = 1.0
    cloud = DepthCloud(n_points=2, image_size=4, low=(-9.0, -9.0, -2.0), high=(9.0, 9.0, 2.0))
    points = cloud.observe(depth, np.zeros(3), DOWNWARDS, 90.0)
    np.testing.assert_allclose(points, [[0.75, 0.75, -1.0]] * 2)  # the only remaining point, repeated


def test_an_empty_cloud_is_rejected() -> None:
    with pytest.raises(ConfigurationError, match="sees no point between"):
        DepthCloud(image_size=4).observe(np.full((4, 4), 50.0), np.zeros(3), DOWNWARDS, 60.0)


def test_farthest_points_are_spread_evenly() -> None:
    line = np.stack([np.linspace(0.0, 1.0, 101) ** 2, np.zeros(101), np.zeros(101)], axis=1)
    assert set(farthest_points(line, 2)) == {0, 100}
    chosen = np.sort(line[farthest_points(line, 5), 0])
    np.testing.assert_allclose(chosen, [0.0, 0.25, 0.5, 0.75, 1.0], atol=0.02)
    assert len(set(farthest_points(line, 101))) == 101
