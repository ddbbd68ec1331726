"""Rotations as axis-angle vectors, matrices and six numbers, compared with scipy."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules.actions.rotations import (
    axis_angle_from_6d,
    axis_angle_to_6d,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
)

AXES = np.random.default_rng(0).normal(size=(200, 3))
AXES /= np.linalg.norm(AXES, axis=1, keepdims=True)
AXES = np.concatenate([AXES, np.eye(3), -np.eye(3), np.sqrt(0.5) * np.array([[1, 1, 0], [0, 1, -1]])])
ANGLES = [0.0, 1e-300, 1e-12, 1e-7, 1e-4, 0.1, 1.0, np.pi / 2, 3.0, np.pi - 1e-4, np.pi - 1e-7, np.pi - 1e-12, np.pi]


def vectors(angle: float) -> np.ndarray:
    return AXES * angle


def angle_between(vectors: np.ndarray, reference: Rotation) -> np.ndarray:
    return (Rotation.from_rotvec(vectors) * reference.inv()).magnitude()


@pytest.mark.parametrize("angle", ANGLES)
def test_matrices_and_columns_are_those_of_scipy(angle: float) -> None:
    expected = Rotation.from_rotvec(vectors(angle)).as_matrix()
    found = axis_angle_to_matrix(torch.from_numpy(vectors(angle))).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14)
    six = axis_angle_to_6d(torch.from_numpy(vectors(angle))).numpy()
    np.testing.assert_array_equal(six, np.concatenate([found[..., 0], found[..., 1]], axis=-1))


@pytest.mark.parametrize("angle", ANGLES)
def test_the_way_back_is_the_same_rotation(angle: float) -> None:
    reference = Rotation.from_rotvec(vectors(angle))
    for back in (
        axis_angle_from_6d(axis_angle_to_6d(torch.from_numpy(vectors(angle)))).numpy(),
        matrix_to_axis_angle(torch.from_numpy(reference.as_matrix())).numpy(),
    ):
        assert np.isfinite(back).all()
        assert np.linalg.norm(back, axis=1).max() <= np.pi + 1e-12
        assert angle_between(back, reference).max() < 1e-14
        if angle < np.pi - 1e-6:  # at pi, both directions of the axis are the same rotation
            np.testing.assert_allclose(back, vectors(angle), rtol=0, atol=1e-13)


def test_float32() -> None:
    random = Rotation.random(10_000, random_state=0)
    six = axis_angle_to_6d(torch.from_numpy(random.as_rotvec()).float())
    assert angle_between(axis_angle_from_6d(six).double().numpy(), random).max() < 2e-6


def test_columns_that_are_not_orthonormal_are_projected() -> None:
    random = np.random.default_rng(1).normal(size=(500, 2, 3))
    first = random[:, 0] / np.linalg.norm(random[:, 0], axis=1, keepdims=True)
    third = np.cross(first, random[:, 1])
    third /= np.linalg.norm(third, axis=1, keepdims=True)
    expected = Rotation.from_matrix(np.stack([first, np.cross(third, first), third], axis=-1))
    found = axis_angle_from_6d(torch.from_numpy(random.reshape(500, 6))).numpy()
    assert angle_between(found, expected).max() < 1e-13


def test_no_rotation_is_finite_and_nan_stays_nan() -> None:
    zero, parallel = [0.0] * 6, [1.0, 0.0, 0.0, 2.0, 0.0, 0.0]
    found = axis_angle_from_6d(torch.tensor([zero, parallel, [float("nan")] * 6]))
    assert torch.isfinite(found[:2]).all()
    assert found[2].isnan().any()


def test_turning_through_pi_is_continuous_in_six_numbers_only() -> None:
    axis = Rotation.from_rotvec([0.0, np.pi, 0.0])
    turned = [Rotation.from_rotvec([0.0, step, 0.0]) * axis for step in (-0.001, 0.001)]
    before, after = (torch.from_numpy(rotation.as_rotvec()) for rotation in turned)
    assert (before - after).norm() > 6
    assert (axis_angle_to_6d(before) - axis_angle_to_6d(after)).norm() < 0.01
