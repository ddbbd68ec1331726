"""ManiSkill2's tasks: their observations match those of the demonstrations, and seeds fix the episodes."""

import importlib.util
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from datamodules import ManiSkillDataModule, PointCloudRecipe
from difftori_pl.cli import main
from difftori_pl.demos.maniskill import plan_demos
from difftori_pl.envs import ManiSkill
from difftori_pl.envs.maniskill_env import ManiSkillEnv
from difftori_pl.errors import ConfigurationError, MissingPackageError, ShapeError

pytestmark = [
    pytest.mark.sim,
    pytest.mark.usefixtures("vulkan"),
    pytest.mark.skipif(importlib.util.find_spec("mani_skill2") is None, reason="ManiSkill2 is not installed"),
    # SAPIEN and ManiSkill2 use deprecated names of numpy and gymnasium.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

RECIPE = PointCloudRecipe(n_goal_points=50, colors=False)


@pytest.fixture(scope="module")
def env() -> Iterator[ManiSkillEnv]:
    made = ManiSkill(cloud=RECIPE, max_episode_steps=3, shader="trivial")()
    yield made
    made.close()


def test_a_stored_state_gives_the_stored_observation(env: ManiSkillEnv) -> None:
    if "DIFFTORI_DATA" not in os.environ:
        pytest.skip("DIFFTORI_DATA is not set; it must name a folder with maniskill2/PickCube-v0")
    path = Path(os.environ["DIFFTORI_DATA"]) / (
        "maniskill2/PickCube-v0/trajectory.pointcloud.pd_ee_delta_pose.sample1.h5"
    )
    data = ManiSkillDataModule(str(path), 7, cloud=RECIPE, validation_fraction=0.0, batch_size=200)
    (batch,) = data.predict_dataloader()
    env.reset(seed=data.file.episode("traj_0")["episode_seed"])
    for step in (0, 60, 99):
        seen = env.observe_state(data.file.read("traj_0", "env_states", step, step + 1)[0], step)
        stored = batch["obs"]["point_cloud"][step, 0].numpy()
        # The tolerance covers the renderer's noise (a few micrometres) and the rounding to 0.1 mm.
        np.testing.assert_allclose(seen["point_cloud"] * RECIPE.scale, stored, rtol=0, atol=1.5e-4)
        np.testing.assert_allclose(seen["robot_state"], batch["obs"]["robot_state"][step, 0], rtol=0, atol=1e-5)


def test_a_seed_fixes_the_episode(env: ManiSkillEnv) -> None:
    action = np.full(7, 0.5, np.float32)
    runs = []
    for _ in range(2):
        first, info = env.reset(seed=7)
        assert info == {"success": False, "seed": 7}
        second, reward, terminated, truncated, info = env.step(action)
        assert (terminated, truncated, info["success"]) == (False, False, False)
        assert np.isfinite(reward)
        runs.append((first, second))
        assert first["point_cloud"].shape == (1200, 3)
        assert {key: value.dtype for key, value in first.items()} == dict.fromkeys(first, np.float32)
        assert env.observation_space.contains(first)
    for one, other in zip(*runs, strict=True):
        np.testing.assert_array_equal(one["point_cloud"], other["point_cloud"])
        np.testing.assert_array_equal(one["robot_state"], other["robot_state"])
    env.step(action)
    assert env.step(action)[3], "the episode is truncated after three steps"


def test_invalid_actions_are_rejected(env: ManiSkillEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=r"\(7,\), got \(4,\)"):
        env.step(np.zeros(4, np.float32))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(7, np.nan, np.float32))


def test_errors_name_what_is_missing() -> None:
    with pytest.raises(ConfigurationError, match=r"no task 'PickCubes-v0'; it has PickCube-v0"):
        ManiSkill("PickCubes-v0")()
    with pytest.raises(ConfigurationError, match="has no controller 'osc_pose'"):
        ManiSkill(control_mode="osc_pose")()
    with pytest.raises(MissingPackageError, match=r"download_asset partnet_mobility.*downloads them"):
        ManiSkill("OpenCabinetDrawer-v1", "base_pd_joint_vel_arm_pd_ee_delta_pose")()


def test_soft_body_tasks_without_cuda_are_rejected() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("CUDA is available")
    with pytest.raises(MissingPackageError, match="need an NVIDIA GPU"):
        ManiSkill("Fill-v0")()


def test_demonstrations_are_planned_replayed_and_rendered(tmp_path: Path) -> None:
    main(["demos", "maniskill", "--episodes=1", f"--output={tmp_path}", "--n_processes=1", "--shader=trivial"])
    clouds = ManiSkillDataModule(
        str(tmp_path / "pointcloud.h5"),
        7,
        task="PickCube-v0",
        cloud=PointCloudRecipe(n_goal_points=50),
        validation_fraction=0.0,
    )
    states = ManiSkillDataModule(str(tmp_path / "trajectory.state.pd_ee_delta_pose.h5"), 7, validation_fraction=0.0)
    assert clouds.demos == states.demos == ["traj_0"]
    assert clouds.interface["cameras"] == ["base_camera", "hand_camera"]
    one, other = next(iter(clouds.predict_dataloader())), next(iter(states.predict_dataloader()))
    np.testing.assert_array_equal(one["actions"], other["actions"])
    np.testing.assert_allclose(one["obs"]["robot_state"][..., :9], other["obs"]["state"][..., :9], rtol=0, atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pointcloud.h5",
        "pointcloud.h5.sha256",
        "trajectory.h5",
        "trajectory.h5.sha256",
        "trajectory.json",
        "trajectory.state.pd_ee_delta_pose.h5",
        "trajectory.state.pd_ee_delta_pose.h5.sha256",
        "trajectory.state.pd_ee_delta_pose.json",
    ]
    env = ManiSkill(cloud=PointCloudRecipe(n_goal_points=50), shader="trivial")()
    assert env.interface == {"cameras": clouds.interface["cameras"]}
    env.close()


@pytest.mark.parametrize("task", ["StackCube-v0", "PegInsertionSide-v0"])
def test_every_expert_solves_its_task(task: str, tmp_path: Path) -> None:
    found = plan_demos(task, tmp_path, episodes=1, n_processes=1, progress=False)
    assert found.n_failures <= 1
    states = ManiSkillDataModule(
        str(tmp_path / "trajectory.state.pd_ee_delta_pose.h5"), 7, task=task, validation_fraction=0.0
    )
    assert states.demos == ["traj_0"]  # the datamodule rejects failed demonstrations


def test_a_task_without_an_expert_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"for 'Fill-v0'; choose one of PickCube-v0, LiftCube-v0"):
        plan_demos("Fill-v0", tmp_path)
