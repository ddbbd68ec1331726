import json
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules import DataError, ManiSkillDataModule, ObservationSpec, PointCloudRecipe
from datamodules.formats.checks import check, summary
from datamodules.formats.maniskill_file import ManiSkillFile
from tests.data import write_maniskill

RECIPE = PointCloudRecipe(n_points=64, n_goal_points=8)


def datamodule(path: Path, **arguments: object) -> ManiSkillDataModule:
    return ManiSkillDataModule(**{"path": str(path), "action_dim": 7, "cloud": RECIPE, "batch_size": 4, **arguments})


def test_raw_clouds_are_converted_by_the_recipe(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path)
    data = datamodule(path, validation_fraction=0.0, horizon=2)
    (batch,) = list(datamodule(path, validation_fraction=0.0, horizon=2, batch_size=99).predict_dataloader())
    assert data.obs_specs == {
        "point_cloud": ObservationSpec.point_cloud(64, 6),
        "robot_state": ObservationSpec.vector(27),
    }
    assert batch["obs"]["point_cloud"].shape == (18, 2, 64, 6)
    assert batch["obs"]["point_cloud"].dtype == torch.float32
    with h5py.File(path) as file:
        group = file["traj_1"]["obs"]
        raw = {f"{a}/{b}": group[a][b][3] for a in group for b in group[a]}
        observed = RECIPE.observe(raw, (1, 3))
        row = 6 + 3
        np.testing.assert_array_equal(
            batch["obs"]["point_cloud"][row, 0].numpy(), observed["point_cloud"] * RECIPE.scale
        )
        np.testing.assert_array_equal(batch["obs"]["robot_state"][row, 0].numpy(), observed["robot_state"])
        np.testing.assert_array_equal(batch["actions"][row].numpy(), file["traj_1"]["actions"][3:5])
    assert set(data.statistics()) == {"actions", "robot_state"}


def test_state_files(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, obs_mode="state")
    data = datamodule(path)
    assert data.obs_specs == {"state": ObservationSpec.vector(51)}
    assert data.interface["observation"] == "state"
    batch = next(iter(data.train_dataloader()))
    demo, start = data.demos[batch["demo"][0]], int(batch["start"][0])
    with h5py.File(path) as file:
        np.testing.assert_array_equal(batch["obs"]["state"][0, 0].numpy(), file[demo]["obs"][start].astype(np.float32))


def test_maniskill1_files_need_no_json(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path)
    with h5py.File(path, "r+") as file:
        for demo in file.values():
            demo["dones"] = demo["success"][()]
            cloud = demo["obs/pointcloud"]
            cloud["xyz"], rgb = cloud["xyzw"][..., :3], cloud["rgb"][()] / 255
            demo["obs/state"] = demo["obs/agent/qpos"][()]
            for name in ("success", "obs/agent", "obs/extra", "obs/pointcloud/xyzw", "obs/pointcloud/rgb"):
                del demo[name]
            cloud["rgb"] = rgb.astype(np.float32)
    path.with_suffix(".json").unlink()
    first = path.rename(tmp_path / "OpenCabinetDrawer_1000.h5")
    data = datamodule(first, cloud=PointCloudRecipe(64, "world"))
    assert data.obs_specs == {
        "point_cloud": ObservationSpec.point_cloud(64, 6),
        "robot_state": ObservationSpec.vector(9),
    }
    assert next(iter(data.train_dataloader()))["obs"]["point_cloud"][..., 3:].max() <= 1
    with pytest.raises(DataError, match=r"expected the observation extra/tcp_pose"):
        datamodule(first).setup()
    with pytest.raises(DataError, match=r"expected low-dimensional observations .*38}, found .*9}.*obs_dims"):
        datamodule(first, cloud=PointCloudRecipe(64, "world"), obs_dims={"robot_state": 38}).setup()


def test_interface_contains_task_controller_and_cloud(tmp_path: Path) -> None:
    interface = datamodule(write_maniskill(tmp_path)).interface
    assert interface["env_id"] == "PickCube-v0"
    assert interface["control_mode"] == "pd_ee_delta_pose"
    assert (interface["frame"], interface["n_points"]) == ("end_effector", 64)


def without_json(path: Path) -> None:
    path.with_suffix(".json").unlink()


def with_damaged_json(path: Path) -> None:
    path.with_suffix(".json").write_text("{")


def with_other_episodes(path: Path) -> None:
    meta = json.loads(path.with_suffix(".json").read_text())
    meta["episodes"][1]["episode_id"] = 9
    path.with_suffix(".json").write_text(json.dumps(meta))


def edit(change: Callable[[h5py.File], None]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        with h5py.File(path, "r+") as file:
            change(file)

    return spoil


def put(name: str, at: tuple[int, ...], value: float) -> Callable[[Path], None]:
    def change(file: h5py.File) -> None:
        values = file[name][()]
        values[at] = value
        file[name][...] = values

    return edit(change)


def empty(file: h5py.File) -> None:
    for name in ("actions", "success"):
        values = file["traj_1"][name][:0]
        del file["traj_1"][name]
        file["traj_1"][name] = values


def short(file: h5py.File) -> None:
    values = file["traj_1/obs/agent/qpos"][:2]
    del file["traj_1/obs/agent/qpos"]
    file["traj_1/obs/agent/qpos"] = values


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_json, r"\.json: no such file.*copy it too"),
        (with_damaged_json, r"expected JSON with env_info and episodes"),
        (with_other_episodes, r"expected the JSON file to list the same trajectories.*but it lacks traj_1"),
        (edit(empty), r"traj_1: expected at least one step, found none.*drop_failed"),
        (put("traj_2/success", (6,), False), r"traj_2: expected success at the end, found a failure.*drop_failed"),
        (edit(short), r"traj_1: expected 5 or 6 steps in obs/agent/qpos.*found 2"),
        (
            put("traj_0/actions", (2, 3), 1.5),
            r"traj_0, step 2: expected actions in \[-1, 1\], found 1.5 .*clip.*replay",
        ),
        (put("traj_0/actions", (2, 3), np.nan), r"traj_0, step 2: expected finite numbers in actions, found nan"),
        (put("traj_0/obs/pointcloud/xyzw", (2, 4, 0), np.nan), r"traj_0, step 2: point 4 of the cloud is .*nan"),
        (put("traj_0/obs/pointcloud/xyzw", (2, slice(None), 2), 0), r"traj_0, step 2: no point is left"),
    ],
)
def test_fault_messages(tmp_path: Path, spoil: Callable[[Path], None], message: str) -> None:
    path = write_maniskill(tmp_path)
    spoil(path)
    with pytest.raises(DataError, match=message):
        datamodule(path).setup()


def test_drop_failed_drops_failed_trajectories(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, failed=[1])
    data = datamodule(path, drop_failed=True)
    assert data.demos == ["traj_0", "traj_2"]
    with pytest.raises(DataError, match="none of the 3 trajectories is successful"):
        datamodule(write_maniskill(tmp_path, failed=[0, 1, 2]), drop_failed=True).setup()


def test_file_name_that_contradicts_the_observations(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, obs_mode="state")
    renamed = path.rename(tmp_path / "trajectory.pointcloud.pd_ee_delta_pose.h5")
    path.with_suffix(".json").rename(renamed.with_suffix(".json"))
    with pytest.raises(DataError, match=r"expected pointcloud observations from the name, found states"):
        datamodule(renamed).setup()


def test_missing_observations_and_other_controllers_are_refused(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, obs_mode="none", control_mode="pd_joint_pos", action_dim=8)
    with pytest.raises(DataError, match=r"of control_mode pd_ee_delta_pose, found pd_joint_pos.*replay"):
        datamodule(path).setup()
    with pytest.raises(DataError, match=r"expected observations, found a recording without them"):
        datamodule(path, control_mode=None).setup()
    other = write_maniskill(tmp_path, action_dim=8)
    with pytest.raises(DataError, match=r"expected actions of size 7, found 8"):
        datamodule(other).setup()


def test_declared_task_and_sizes_are_checked(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path)
    with pytest.raises(DataError, match=r"of env_id StackCube-v0, found PickCube-v0"):
        datamodule(path, task="StackCube-v0").setup()
    with pytest.raises(DataError, match=r"expected low-dimensional observations .*30}, found .*27}"):
        datamodule(path, obs_dims={"robot_state": 30}).setup()
    datamodule(path, task="PickCube-v0", obs_dims={"robot_state": 27}).setup()


def test_check_reports_all_faults(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path, failed=[1])
    put("traj_0/actions", (2, 3), 1.5)(path)
    assert [fault.rule for fault in check(path)] == ["failed_demo", "action_range"]


def test_summary_of_a_valid_file(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path)
    assert check(path) == []
    facts = summary(path)
    assert (facts.n_demos, facts.n_steps, facts.content) == (3, 18, "PickCube-v0")
    assert facts.shapes["obs/pointcloud/xyzw"] == (300, 4)


@pytest.fixture
def shared() -> Path:
    if "DIFFTORI_DATA" not in os.environ:
        pytest.skip("DIFFTORI_DATA is not set: it names a folder with maniskill2/PickCube-v0")
    return Path(os.environ["DIFFTORI_DATA"]) / "maniskill2/PickCube-v0"


def test_official_states_are_read_exactly(shared: Path) -> None:
    path = shared / "trajectory.state.pd_ee_delta_pose.h5"
    data = datamodule(path, batch_size=10**6, validation_fraction=0.0)
    (batch,) = data.predict_dataloader()
    assert len(data.demos) == 130
    with h5py.File(path) as file:
        for name in ("actions", "obs"):
            stored = np.concatenate([file[demo][name][: len(file[demo]["actions"])] for demo in data.demos])
            read = batch["actions"] if name == "actions" else batch["obs"]["state"]
            np.testing.assert_array_equal(read[:, 0].numpy(), stored.astype(np.float32))


def test_official_clouds_mark_the_goal_position(shared: Path) -> None:
    file = ManiSkillFile(
        shared / "trajectory.pointcloud.pd_ee_delta_pose.sample1.h5", PointCloudRecipe(frame="world", n_goal_points=50)
    )
    cloud = file.read("traj_0", "obs/point_cloud", 0, 1)[0] * file.recipe.scale
    assert np.abs(cloud[-50:, :3].mean(0) - [0.0851, -0.0858, 0.0636]).max() < 0.004
    cube = file.handle["traj_0/env_states"][0, 13:16]
    assert (np.linalg.norm(cloud[:-50, :3] - cube, axis=1) < 0.04).sum() > 5
