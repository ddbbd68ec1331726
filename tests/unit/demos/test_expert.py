import numpy as np
import pytest

from difftori_pl.demos.expert import (
    OPEN,
    Expert,
    Phase,
    Pose,
    downwards,
    heading,
    matrix,
    nearest_turn,
    rotation_vector,
)


def test_the_rotation_vector_of_a_quarter_turn() -> None:
    quarter = matrix(np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)]))
    np.testing.assert_allclose(rotation_vector(quarter), [0.0, 0.0, np.pi / 2], atol=1e-12)
    np.testing.assert_allclose(rotation_vector(np.eye(3)), np.zeros(3))


@pytest.mark.parametrize("yaw", [-3.0, -0.5, 0.0, 2.0])
def test_downwards_is_a_rotation_with_the_given_yaw(yaw: float) -> None:
    rotation = downwards(yaw)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(rotation), 1.0)
    np.testing.assert_allclose(rotation[:, 2], [0.0, 0.0, -1.0])
    np.testing.assert_allclose(heading(rotation), yaw)


def test_nearest_turn_selects_the_nearest_equivalent_angle() -> None:
    assert nearest_turn(3.0, np.pi) == pytest.approx(3.0 - np.pi)
    assert nearest_turn(0.1, np.pi / 2, reference=1.6) == pytest.approx(0.1 + np.pi / 2)


class _Still(Expert):
    task = "none"

    def plan(self, obs, rng):
        here = Pose(np.zeros(3), 0.0)
        return [Phase(lambda obs: here, OPEN, max_steps=3), Phase(lambda obs: Pose(np.ones(3), 0.0), OPEN, noise=0.1)]


def test_actions_are_bounded_and_fixed_by_the_seed() -> None:
    obs = {"robot0_eef_pos": np.zeros(3), "robot0_eef_quat": np.array([1.0, 0.0, 0.0, 0.0])}

    def episode(seed: int) -> np.ndarray:
        expert = _Still()
        expert.reset(obs, seed)
        return np.stack([expert.act(obs) for _ in range(20)])

    actions = episode(0)
    assert actions.dtype == np.float32
    assert np.abs(actions).max() <= 1
    np.testing.assert_array_equal(actions[0, :6], 0)
    assert np.abs(actions[1:, :3]).max() > 0.5
    np.testing.assert_array_equal(actions, episode(0))
    assert not np.array_equal(actions, episode(1))
