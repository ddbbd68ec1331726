"""Scaled actions from training to rollouts, refinement and a loaded policy."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from datamodules.actions.scaling import ActionScaling
from difftori_pl import load_policy
from difftori_pl.cli import run
from difftori_pl.deployment.export import export
from difftori_pl.errors import ConfigurationError
from tests.conftest import SMALL, SQUARE_OBS
from tests.data import ENV_META, write_robomimic

CENTER, SPREAD = 40.0, 3.0
OBSERVATION = {key: np.zeros(shape) for key, shape in SQUARE_OBS.items()}


@pytest.fixture(scope="module")
def scaled_data(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write a file with actions in [37, 43] and return the options that scale them."""
    path = write_robomimic(tmp_path_factory.mktemp("scaled") / "scaled.hdf5", [18, 20, 19], SQUARE_OBS)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["actions"][...] = CENTER + SPREAD * demo["actions"][()]
    return [f"--data.path={path}", "--data.action_scaling=min_max"]


@pytest.fixture(scope="module")
def scaled_base(train: Callable[..., Path], scaled_data: list[str]) -> Path:
    return train("bc_rnn_square_low_dim.yaml", *SMALL, *scaled_data)


@pytest.fixture
def refine(quick: list[str]) -> Callable[..., Any]:
    def fit(base: Path, *options: str) -> Any:
        command = ["fit", "--config=il_square_low_dim.yaml", *quick, f"--model.base_policy.checkpoint={base}"]
        return run([*command, "--trainer.max_steps=1", *options])

    return fit


def test_a_loaded_policy_acts_in_the_units_of_the_data(scaled_base: Path) -> None:
    action = load_policy(scaled_base).act(OBSERVATION)
    assert np.abs(action - CENTER).max() < SPREAD  # untrained: near the center
    content = torch.load(scaled_base, weights_only=True)
    scaling = ActionScaling.from_interface(content["interface"])
    assert scaling is not None
    np.testing.assert_allclose(scaling.center, CENTER, atol=0.2 * SPREAD)


def test_refinement_stays_within_the_scaled_bounds(
    refine: Callable[..., Any], scaled_base: Path, scaled_data: list[str]
) -> None:
    model = refine(scaled_base, *scaled_data, "--model.trajopt.solver=solver/adam.yaml").model
    scaling = ActionScaling.from_interface(model.interface)
    assert scaling is not None
    torch.nn.init.normal_(model.score.net[-1].weight, std=100.0)  # pushes every action to a bound
    model.eval()
    obs = {key: torch.zeros(1, 1, *value.shape) for key, value in OBSERVATION.items()}
    action, _ = model.act(obs, model.initial_state(1))
    restored = scaling.restore(action)[0].detach().numpy()
    half = np.array(scaling.half_range)
    assert (np.abs(restored - np.array(scaling.center)) <= half * (1 + 1e-5)).all()


def test_a_component_that_never_moves_keeps_its_value(
    train: Callable[..., Path], refine: Callable[..., Any], tmp_path: Path
) -> None:
    path = write_robomimic(tmp_path / "closed.hdf5", [18, 20, 19], SQUARE_OBS)
    with h5py.File(path, "a") as file:
        for demo in file["data"].values():
            demo["actions"][:, 6] = 5.1
    closed = [f"--data.path={path}", "--data.action_scaling=mean_std"]
    base = train("bc_rnn_square_low_dim.yaml", *SMALL, *closed)
    refined = refine(base, *closed).trainer.checkpoint_callback.last_model_path
    for checkpoint in (base, refined):
        action = load_policy(checkpoint).act(OBSERVATION)
        assert action[6] == np.float32(5.1)
        assert np.isfinite(action).all()
    assert export(base, tmp_path / "policy.pt2", n_runs=1).error < 1e-5


def test_a_base_policy_with_another_scaling_is_refused(
    refine: Callable[..., Any], low_dim_base: Path, scaled_base: Path, scaled_data: list[str]
) -> None:
    with pytest.raises(ConfigurationError, match=r"base_policy was trained with action_scaling none, but the data has"):
        refine(low_dim_base, *scaled_data)
    with pytest.raises(
        ConfigurationError, match=r"with action_scaling min_max \(.*\), but the data has none: set data"
    ):
        refine(scaled_base)
    with pytest.raises(ConfigurationError, match=r"with action_scaling min_max .* the data has quantiles"):
        refine(scaled_base, *scaled_data, "--data.action_scaling=quantiles")


def test_a_policy_asked_for_another_scaling_is_refused(
    quick: list[str], scaled_base: Path, scaled_data: list[str]
) -> None:
    command = ["validate", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, f"--ckpt_path={scaled_base}"]
    with pytest.raises(ConfigurationError, match=r"the policy was trained with action_scaling min_max .* has mean_std"):
        run([*command, *scaled_data, "--data.action_scaling=mean_std"])


def test_a_checkpoint_without_the_entry_means_no_scaling(
    quick: list[str], low_dim_base: Path, scaled_data: list[str], tmp_path: Path
) -> None:
    content = torch.load(low_dim_base, weights_only=True)
    assert content["interface"].pop("action_scaling") is None
    torch.save(content, tmp_path / "old.ckpt")
    command = ["validate", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, f"--ckpt_path={tmp_path}/old.ckpt"]
    with pytest.raises(ConfigurationError, match="the policy was trained with action_scaling none"):
        run([*command, *scaled_data])


@pytest.fixture(scope="module")
def poses(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Write a file of absolute poses and return the options that turn their rotations into six numbers."""
    path = write_robomimic(tmp_path_factory.mktemp("poses") / "poses.hdf5", [18, 20, 19], SQUARE_OBS)
    with h5py.File(path, "a") as file:
        for seed, demo in enumerate(file["data"].values()):
            demo["actions"][:, 3:6] = Rotation.random(len(demo["actions"]), random_state=seed).as_rotvec()
            demo["actions"][:, :3] += 1.0
    return [f"--data.path={path}", "--data.action_scaling=min_max", "--data.action_rotations=[3]"]


@pytest.fixture(scope="module")
def posing_base(train: Callable[..., Path], poses: list[str]) -> Path:
    return train("bc_rnn_square_low_dim.yaml", *SMALL, *poses, "--model.policy.action_dim=10")


def test_a_policy_of_poses_returns_axis_angle_vectors(posing_base: Path, tmp_path: Path) -> None:
    policy = load_policy(posing_base)
    action = policy.act(OBSERVATION)
    assert action.shape == (7,)
    assert 0.0 < np.linalg.norm(action[3:6]) <= np.pi + 1e-6
    exported = export(posing_base, tmp_path / "policy.pt2", n_runs=1)
    assert exported.error < 1e-5
    program = torch.export.load(tmp_path / "policy.pt2").module()
    inputs = [torch.zeros(1, 1, *SQUARE_OBS[key]) for key in exported.inputs if key in SQUARE_OBS]
    assert program(*inputs, *policy.policy.initial_state(1).values())[0].shape == (1, 7)


def test_refinement_of_poses_and_other_rotations(
    refine: Callable[..., Any], posing_base: Path, poses: list[str]
) -> None:
    assert refine(posing_base, *poses).model.action_dim == 10
    with pytest.raises(
        ConfigurationError, match=r"base_policy was trained with action_rotations \[3\], but the data has"
    ):
        refine(posing_base, *poses, "--data.action_rotations=[]")


def test_a_policy_of_another_size_is_refused(quick: list[str], poses: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="expects actions of 7 numbers, got data with 10 per action"):
        run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, *poses])


def test_an_environment_with_another_controller_is_refused(quick: list[str], tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "delta.hdf5", [18, 20, 19], SQUARE_OBS)
    with h5py.File(path, "a") as file:
        kwargs = {"controller_configs": {"type": "OSC_POSE", "control_delta": True}}
        file["data"].attrs["env_args"] = json.dumps({**ENV_META, "env_kwargs": kwargs})
    command = ["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, f"--data.path={path}"]
    refused = r"the policy was trained with control_delta True, but the environment has False: use the same"
    with pytest.raises(ConfigurationError, match=refused):
        run([*command, "--rollout.env.control_delta=false"])
