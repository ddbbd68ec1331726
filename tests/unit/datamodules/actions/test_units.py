"""`ActionUnits`: rotations in six numbers beside scaled components, in both directions, and refused settings."""

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules import RobomimicDataModule
from datamodules.actions.scaling import ActionScaling
from datamodules.actions.units import UNCHANGED, ActionUnits
from datamodules.errors import DataError
from tests.data import write_robomimic


def poses(n_steps: int, seed: int = 0) -> npt.NDArray[np.float64]:
    """Return positions in metres, axis-angle vectors and a gripper command (n_steps, 7)."""
    random = np.random.default_rng(seed)
    turns = Rotation.random(n_steps, random_state=seed).as_rotvec()
    return np.column_stack([random.uniform(0.5, 1.5, (n_steps, 3)), turns, random.choice([-1.0, 1.0], n_steps)])


@pytest.mark.parametrize(("rotations", "n_arms"), [([3], 1), ([3, 10], 2), ([10], 2)])
def test_the_way_to_a_policy_and_back(rotations: list[int], n_arms: int) -> None:
    actions = np.column_stack([poses(300, seed) for seed in range(n_arms)])
    units = ActionUnits.fit("min_max", rotations, actions, 0.0)
    given = units.to_policy(actions)
    assert given.dtype == np.float32
    assert given.shape == (300, 7 * n_arms + 3 * len(rotations))
    assert np.abs(given).max() <= 1.0
    first = rotations[0]
    np.testing.assert_array_equal(given[:, :3].max(axis=0), 1.0)
    turned = Rotation.from_rotvec(actions[:, first : first + 3]).as_matrix()
    np.testing.assert_allclose(
        given[:, first : first + 6], turned[..., :2].transpose(0, 2, 1).reshape(300, 6), atol=1e-7
    )
    restored = units.restore(torch.from_numpy(given)).numpy()
    np.testing.assert_allclose(restored[:, :3], actions[:, :3], atol=1e-6)
    for start in rotations:
        found = Rotation.from_rotvec(restored[:, start : start + 3])
        assert (found * Rotation.from_rotvec(actions[:, start : start + 3]).inv()).magnitude().max() < 3e-6
    np.testing.assert_allclose(restored[:, -1], actions[:, -1], atol=1e-6)


def test_the_record_is_complete() -> None:
    units = ActionUnits.fit("quantiles", [3], np.column_stack([poses(300)[:, :6], np.arange(300.0)]), 0.1)
    assert ActionUnits.from_interface(units.record()) == units
    assert ActionUnits.from_interface(None) == ActionUnits.from_interface(UNCHANGED) == ActionUnits()
    with pytest.raises(DataError, match="expected action_rotations as a list of components"):
        ActionUnits.from_interface({"action_rotations": ["x"]})


def test_the_difference_of_two_rotations_is_the_turn_between_them() -> None:
    units = ActionUnits(rotations=(3,))
    first, second = (torch.from_numpy(poses(50, seed)) for seed in (0, 1))
    found = units.difference(first, second).numpy()
    turns = Rotation.from_rotvec(first[:, 3:6].numpy()) * Rotation.from_rotvec(second[:, 3:6].numpy()).inv()
    np.testing.assert_allclose(found[:, 3:6], turns.as_rotvec(), atol=1e-12)
    np.testing.assert_array_equal(found[:, :3], (first - second)[:, :3].numpy())
    flipped = first.clone()
    flipped[:, 3:6] *= 1.0 - 2 * np.pi / flipped[:, 3:6].norm(dim=-1, keepdim=True)  # the same rotations
    np.testing.assert_allclose(units.difference(first, flipped).numpy(), 0.0, atol=1e-12)


def write_poses(folder: Path) -> Path:
    path = write_robomimic(folder / "poses.hdf5")
    with h5py.File(path, "a") as file:
        for seed, demo in enumerate(file["data"].values()):
            demo["actions"][...] = poses(len(demo["actions"]), seed)
    return path


def test_a_datamodule_delivers_six_numbers(tmp_path: Path) -> None:
    options = {"action_scaling": "min_max", "action_rotations": [3], "validation_fraction": 0.4}
    data = RobomimicDataModule(str(write_poses(tmp_path)), ["object"], 7, **options)  # type: ignore[arg-type]
    data.setup()
    assert data.action_dim == 10
    assert next(iter(data.train_dataloader()))["actions"].shape[-1] == 10
    assert data.statistics()["actions"].std.shape == (10,)
    assert data.interface["action_rotations"] == [3]
    assert ActionScaling.from_interface(data.interface).half_range[3:6] == (1.0, 1.0, 1.0)  # type: ignore[union-attr]
    for _, actions in data.held_out_episodes():
        assert actions.shape[-1] == 7


@pytest.mark.parametrize("rotations", [[5], [-1], [0, 2], [3, 0]])
def test_rotations_outside_the_action_are_refused(rotations: list[int], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"action_rotations must list .* the 7 components of an action, got \["):
        RobomimicDataModule(str(tmp_path), ["object"], 7, action_rotations=rotations)
