"""Each cause of an unreadable file has its own message."""

import json
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from datamodules import (
    DataError,
    ManiSkillDataModule,
    MetaWorldDataModule,
    ObservationSpec,
    PointCloudRecipe,
    PushTDataModule,
    RobomimicDataModule,
)
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.checks import check
from datamodules.formats.damage import write_check_sums
from datamodules.formats.robomimic_file import RobomimicFile
from difftori_pl.demos.convert import plan
from difftori_pl.demos.recorder import record
from difftori_pl.demos.render import render
from difftori_pl.errors import ConfigurationError
from tests.data import write_maniskill, write_pusht, write_robomimic


def robomimic(path: Path | str, **options: object) -> RobomimicDataModule:
    return RobomimicDataModule(str(path), ["object"], 7, **options)  # type: ignore[arg-type]


def assert_refused(path: Path, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        robomimic(path).setup()
    assert "\n" not in str(caught.value)
    assert "damaged" not in str(caught.value)
    (fault,) = check(path)
    assert str(caught.value).removeprefix(f"{path}: ").rstrip(".") == fault.problem


def test_a_folder_of_hdf5_files(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "a.hdf5")
    write_robomimic(tmp_path / "b.hdf5")
    assert_refused(tmp_path, r"got a folder with 2 HDF5 files\. Give the path of one of them, e\.g\. .*a\.hdf5")


def test_a_lerobot_data_set(tmp_path: Path) -> None:
    (tmp_path / "meta").mkdir()
    (tmp_path / "meta/info.json").write_text("{}")
    with pytest.raises(DataError, match=r"got a LeRobot data set\. Read it with LeRobotDataModule"):
        robomimic(tmp_path).setup()


def test_an_empty_folder(tmp_path: Path) -> None:
    assert_refused(tmp_path, r"expected a robomimic HDF5 file, got a folder\. Give the path of the file in it")


def test_a_zarr_folder_instead_of_hdf5_and_the_reverse(tmp_path: Path) -> None:
    pytest.importorskip("zarr")
    with pytest.raises(DataError, match=r"expected a robomimic HDF5 file, got a zarr folder\. Read it with PushTData"):
        robomimic(write_pusht(tmp_path / "pusht.zarr", image_size=8)).setup()
    path = write_robomimic(tmp_path / "demos.hdf5")
    with pytest.raises(DataError, match=r"expected a Push-T zarr folder, got a file that ends with \.hdf5"):
        PushTDataModule(str(path)).setup()


def test_zarr_of_format_3_under_version_2(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    if zarr.__version__ >= "3":
        pytest.skip("zarr 3 reads both formats")
    path = tmp_path / "pusht.zarr"
    path.mkdir()
    (path / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    message = r"reads format 2, but this folder has format 3\. Install zarr 3, or write"
    with pytest.raises(DataError, match=message):
        PushTDataModule(str(path)).setup()
    assert "this folder has format 3" in str(check(path)[0])


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("zarr")
    monkeypatch.setenv("HOME", str(tmp_path))
    write_robomimic(tmp_path / "demos.hdf5")
    write_pusht(tmp_path / "pusht.zarr", image_size=8)
    robomimic("~/demos.hdf5").setup()
    assert check("~/demos.hdf5") == check("~/pusht.zarr") == []
    assert write_check_sums(Path("~/demos.hdf5")).parent == tmp_path


def test_a_file_that_is_open_for_writing(tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5")
    code = "import h5py, sys\nf = h5py.File(sys.argv[1], 'r+')\nprint('open', flush=True)\nsys.stdin.read()"
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert_refused(path, r"still open for writing\. Wait until its writer has closed it")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = write_robomimic(tmp_path / "demos.hdf5")
    monkeypatch.setattr(h5py, "File", refuse)
    assert_refused(path, r"no permission to read it")


def test_clear_errors_distinguishes_damage_from_other_causes(tmp_path: Path) -> None:
    file = RobomimicFile(write_robomimic(tmp_path / "demos.hdf5"))
    with pytest.raises(DataError, match=r"not enough memory to read it .*n_demos"), file.clear_errors():
        raise MemoryError
    with pytest.raises(TypeError, match="our own"), file.clear_errors():
        raise TypeError("our own")
    with pytest.raises(DataError, match=r"demos\.hdf5: demo_1: cannot be read .*damaged"), file.clear_errors("demo_1"):
        json.loads("{")


def test_a_format_names_the_packages_that_read_it(tmp_path: Path) -> None:
    class Packed(RobomimicFile):
        readers = ("fractions",)

    for form in (RobomimicFile, Packed):
        expected = DataError if form is Packed else ValueError
        with pytest.raises(expected), form(tmp_path / "demos.hdf5").clear_errors():
            Fraction("damaged bytes")


NUMBERS = [
    ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    ({"horizon": -3}, "horizon must be at least 1, got -3"),
    ({"n_obs_steps": 0}, "n_obs_steps must be at least 1, got 0"),
    ({"validation_fraction": 1.0}, "validation_fraction must be at least 0 and below 1, got 1.0"),
    ({"validation_fraction": -0.1}, "got -0.1"),
    ({"validation_fraction": float("nan")}, "got nan"),
    ({"n_demos": 0}, "n_demos must be at least 1, got 0"),
    ({"n_workers": -1}, "n_workers must be at least 0, got -1"),
]

DATAMODULES: list[Callable[..., DemonstrationDataModule]] = [
    robomimic,
    PushTDataModule,
    lambda path, **options: ManiSkillDataModule(path, 7, **options),
    lambda path, **options: MetaWorldDataModule("push-v3", path, **options),
]


@pytest.mark.parametrize(("options", "message"), NUMBERS)
@pytest.mark.parametrize("datamodule", DATAMODULES)
def test_numbers_out_of_range(
    datamodule: Callable[..., DemonstrationDataModule], options: dict[str, float], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        datamodule("none", **options)


def nested(path: Path) -> Path:
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            n_steps = len(demo["actions"])
            demo["obs/policy/joint_pos"] = np.arange(3.0 * n_steps).reshape(n_steps, 3)
            demo["obs/policy/note"] = np.array([b"none"] * n_steps)
    return path


def test_nested_observations_are_named_by_path(tmp_path: Path) -> None:
    path = nested(write_robomimic(tmp_path / "demos.hdf5"))
    robomimic(path).setup()
    assert check(path) == []
    data = RobomimicDataModule(str(path), ["policy/joint_pos"], 7, horizon=1, validation_fraction=0.0)
    batch = next(iter(data.predict_dataloader()))
    np.testing.assert_array_equal(batch["obs"]["policy/joint_pos"][1, 0], [3, 4, 5])
    assert data.obs_specs == {"policy/joint_pos": ObservationSpec.vector(3)}
    assert set(data.statistics()) == {"policy/joint_pos", "actions"}
    message = r"expected the observation 'policy' in `obs`, found object, policy/joint_pos, .*Choose one of these"
    with pytest.raises(DataError, match=message):
        RobomimicDataModule(str(path), ["policy"], 7).setup()


@pytest.mark.parametrize("in_memory", [True, False])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_rounding_is_clipped_and_the_last_observation_ignored(tmp_path: Path, in_memory: bool, n_workers: int) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5")
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            n_steps = len(demo["actions"])
            del demo["obs/object"], demo["actions"]
            demo["obs/object"] = np.arange(n_steps + 1.0)[:, None]
            demo.create_dataset("actions", data=np.full((n_steps, 7), -1.0000005), compression="gzip")
    data = robomimic(
        path, cache_low_dim=in_memory, n_workers=n_workers, horizon=2, batch_size=99, validation_fraction=0
    )
    loader = data.predict_dataloader()
    (batch,) = list(loader)
    assert (batch["actions"] == -1).all()
    first = batch["demo"] == 0
    assert batch["obs"]["object"][first, :, 0].tolist()[-2:] == [[7, 8], [8, 8]]
    assert data.statistics()["actions"].min.tolist() == [-1] * 7
    assert data.statistics()["object"].max.item() == 11
    del loader


@pytest.mark.parametrize("content", ["no hdf5", None])
def test_rendering_an_unreadable_file_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "demos.hdf5"
    if content is not None:
        path.write_text(content)
    with pytest.raises(DataError, match=r"no such file" if content is None else r"expected an HDF5 file, but"):
        render(path, tmp_path / "images.hdf5")


def test_a_recording_over_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    path.write_text("no hdf5")
    player = SimpleNamespace(recipe={"task": "Lift"})
    with pytest.raises(DataError, match=r"expected an HDF5 file, but it cannot be opened"):
        record(player, path)  # type: ignore[arg-type]


def test_converting_without_success_flags_is_refused(tmp_path: Path) -> None:
    path = write_maniskill(tmp_path)
    with h5py.File(path, "r+") as file:
        del file["traj_1/success"]
    with pytest.raises(ConfigurationError, match=r"traj_1: expected an array `success`, found actions, env_states"):
        plan(path, PointCloudRecipe())
