"""A converted file equals the raw file with the recipe applied, even after an interruption."""

import os
from pathlib import Path

import h5py
import pytest
import torch

from datamodules import DataError, ManiSkillDataModule, PointCloudRecipe
from difftori_pl.cli import main
from difftori_pl.demos import convert
from difftori_pl.demos.convert import plan
from difftori_pl.errors import ConfigurationError
from tests.data import write_maniskill

RECIPE = PointCloudRecipe(n_points=64, n_goal_points=8)


def datamodule(path: Path, **arguments: object) -> ManiSkillDataModule:
    return ManiSkillDataModule(str(path), 7, cloud=RECIPE, horizon=2, n_obs_steps=2, **arguments)


def batches(path: Path, **arguments: object) -> list[object]:
    data = datamodule(path, **arguments)
    return [*data.predict_dataloader(), data.statistics()["robot_state"].mean]


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_converted_file_gives_the_same_batches_as_the_raw_file(tmp_path: Path, in_memory: bool) -> None:
    raw, output = write_maniskill(tmp_path), tmp_path / "converted.h5"
    convert(raw, output, RECIPE, n_processes=1, progress=False)
    torch.testing.assert_close(batches(output, in_memory=in_memory), batches(raw), rtol=0, atol=0)
    assert datamodule(output).interface == datamodule(raw).interface
    assert datamodule(output).obs_specs == datamodule(raw).obs_specs
    assert not (tmp_path / "converted.h5.parts").exists()
    with h5py.File(output) as file:
        cloud = file["traj_0/obs/point_cloud"]
        assert (cloud.compression, cloud.chunks) == ("gzip", (4, 64, 6))


def test_the_plan_is_an_upper_bound(tmp_path: Path) -> None:
    found = plan(write_maniskill(tmp_path, failed=[1]), RECIPE)
    assert found == (["traj_0", "traj_2"], 1, 13, 13 * 2 * 64 * 6, False)


def test_an_interrupted_conversion_is_resumed(tmp_path: Path) -> None:
    raw, output = write_maniskill(tmp_path), tmp_path / "converted.h5"
    with h5py.File(raw, "r+") as file:
        good = file["traj_2/obs/pointcloud/xyzw"][3]
        file["traj_2/obs/pointcloud/xyzw"][3] = float("nan")
    stamp = raw.stat().st_mtime_ns
    with pytest.raises(DataError, match="traj_2, step 3"):
        convert(raw, output, RECIPE, n_processes=1, progress=False)
    assert not output.exists()
    finished = tmp_path / "converted.h5.parts" / "traj_0.h5"
    with h5py.File(finished, "r+") as file:
        file["actions"][0] = 0.25
    with h5py.File(raw, "r+") as file:
        file["traj_2/obs/pointcloud/xyzw"][3] = good
    with pytest.raises(ConfigurationError, match="has parts of another recording or conversion"):
        convert(raw, output, RECIPE, n_processes=1, progress=False)
    os.utime(raw, ns=(stamp, stamp))
    convert(raw, output, RECIPE, n_processes=1, progress=False)
    with h5py.File(output) as file:
        assert (file["traj_0/actions"][0] == 0.25).all(), "finished trajectories are kept"
        assert len(file) == 3


def test_unusable_files_are_rejected(tmp_path: Path) -> None:
    raw, output = write_maniskill(tmp_path), tmp_path / "converted.h5"
    convert(raw, output, RECIPE, n_processes=1, progress=False)
    with pytest.raises(ConfigurationError, match="exists: choose another name"):
        convert(raw, output, RECIPE)
    with pytest.raises(ConfigurationError, match="is already converted"):
        plan(output, RECIPE)
    states = write_maniskill(tmp_path, obs_mode="state")
    assert plan(states, RECIPE).renders
    with h5py.File(states, "r+") as file:
        del file["traj_0/env_states"]
    with pytest.raises(ConfigurationError, match="neither point clouds nor env_states"):
        plan(states, RECIPE)
    with pytest.raises(DataError, match=r"converted with other settings.*'n_points': \(64, 99\)"):
        ManiSkillDataModule(str(output), 7, cloud=PointCloudRecipe(99, n_goal_points=8)).setup()


def test_the_command_prints_the_size_before_converting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    raw = write_maniskill(tmp_path, failed=[0])
    main(["data", "convert", str(raw), "--cloud.n_points=64", "--cloud.frame=base", "--n_processes=1"])
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("2 demos (1 failed or empty demos are dropped), 12 steps: at most 0 MB")
    assert str(raw.with_suffix(".converted.h5")) in last
