"""Reading a damaged file ends in a clear error or in a correct read, never in a crash, a hang or an unclear error.

The tests use the public files if the environment variable DIFFTORI_DATA names their folder, and small generated files
otherwise. `DIFFTORI_FAULT_ROUNDS=500 pytest tests/faults` runs 500 rounds per file.
"""

import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datamodules import DataError, ManiSkill3DataModule, ManiSkillDataModule, PushTDataModule, RobomimicDataModule
from datamodules.formats.checks import check, summary
from datamodules.formats.damage import write_check_sums
from difftori_pl.cli import main
from tests.data import write_maniskill, write_pusht, write_robomimic
from tests.faults.mutations import ROUNDS, copy_data, mutate, outcomes
from tests.maniskill3_data import VECTORS, copy_maniskill3

DATA = Path(os.environ["DIFFTORI_DATA"]) if "DIFFTORI_DATA" in os.environ else None


def robomimic(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    if DATA is None:
        path = write_robomimic(folder / "demos.hdf5", [9, 12, 7], image_keys=["image"])
        return path, partial(read, RobomimicDataModule, obs_keys=["object"], image_keys=["image"], action_dim=7)
    path = DATA / "robomimic" / "square" / "ph" / "low_dim.hdf5"
    return path, partial(read, RobomimicDataModule, obs_keys=["object", "robot0_eef_pos"], action_dim=7, n_demos=4)


def maniskill(folder: Path, mode: str = "state") -> tuple[Path, Callable[[Path], Any]]:
    if DATA is None:
        return write_maniskill(folder, obs_mode=mode), partial(read, ManiSkillDataModule, action_dim=7)
    path = DATA / "maniskill2" / "PickCube-v0" / "trajectory.state.pd_ee_delta_pose.h5"
    return path, partial(read, ManiSkillDataModule, action_dim=7, n_demos=4, drop_failed=True)


def maniskill3(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    return copy_maniskill3(folder), partial(read, ManiSkill3DataModule, action_dim=4, obs_keys=list(VECTORS))


def pusht(folder: Path) -> tuple[Path, Callable[[Path], Any]]:
    if DATA is None:
        return write_pusht(folder / "pusht.zarr"), partial(read, PushTDataModule)
    return DATA / "pusht" / "pusht_cchi_v7_replay.zarr", partial(read, PushTDataModule, n_demos=4)


def read(datamodule: Callable[..., Any], path: Path, **options: Any) -> Any:
    """Read what a run reads from a file: batches, statistics and the task."""
    data = datamodule(str(path), batch_size=64, horizon=2, validation_fraction=0.02, **options)
    data.setup()
    batches = [_plain(batch) for batch, _ in zip(data.predict_dataloader(), range(2), strict=False)]
    train = data._train_dataset
    statistics = {key: vars(value) for key, value in data.statistics().items()}
    return [batches, _plain(train.__getitems__(range(0, len(train), 7))), statistics, data.task]


def _plain(batch: Any) -> Any:
    return {key: _plain(value) if isinstance(value, dict) else np.asarray(value) for key, value in batch.items()}


def damage_file(suffix: str | None, path: Path, seed: int) -> None:
    target = path if suffix is None else path.with_suffix(suffix)
    target.write_bytes(mutate(target.read_bytes(), seed))


def damage_folder(path: Path, seed: int) -> None:
    """Damage one file of the folder, in a third of the rounds a metadata file instead of a chunk."""
    files = sorted(
        part for part in path.rglob("*") if part.is_file() and part.stat().st_size and "img" not in str(part)
    )
    hidden = [part for part in files if part.name.startswith(".") or "episode_ends" in str(part)]
    target = (hidden if seed % 3 == 0 else files)[seed * 7919 % len(hidden if seed % 3 == 0 else files)]
    target.write_bytes(mutate(target.read_bytes(), seed))


FORMATS = {
    "robomimic HDF5": (robomimic, partial(damage_file, None)),
    "ManiSkill HDF5": (maniskill, partial(damage_file, None)),
    "ManiSkill JSON": (maniskill, partial(damage_file, ".json")),
    "ManiSkill3 HDF5": (maniskill3, partial(damage_file, None)),
    "Push-T zarr": (pusht, damage_folder),
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_end_in_a_clear_error_or_a_correct_read(name: str, tmp_path: Path) -> None:
    make, damage = FORMATS[name]
    path, reader = make(tmp_path)
    (tmp_path / "copy").mkdir()
    found = outcomes(reader, path, damage, range(ROUNDS or 25), tmp_path / "copy", (DataError,))
    print(name, dict(found))
    assert set(found) <= {"error", "same", "different"}, found
    # Without checksums, a flipped bit in a number cannot be detected; `difftori data check` says so (see below).
    assert found["error"] > 0


@pytest.mark.parametrize("name", FORMATS)
def test_only_a_check_of_a_file_mentions_missing_check_sums(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    path, reader = FORMATS[name][0](tmp_path)
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    copy_data(path, copy)
    with caplog.at_level(logging.INFO):
        reader(copy)
    assert "checksums" not in caplog.text
    main(["data", "check", str(copy)])
    assert f"`difftori data sums {copy}` writes them" in capsys.readouterr().out
    write_check_sums(copy)
    main(["data", "check", str(copy)])
    assert "checksums" not in capsys.readouterr().out


@pytest.mark.parametrize("name", FORMATS)
def test_check_sums_detect_every_change(name: str, tmp_path: Path) -> None:
    make, damage = FORMATS[name]
    path, reader = make(tmp_path)
    folder = tmp_path / "copy"
    folder.mkdir()
    valid = tmp_path / "valid" / path.name
    valid.parent.mkdir()
    copy_data(path, valid)
    write_check_sums(valid).rename(folder / f"{path.name}.sha256")
    found = outcomes(reader, path, damage, range(10_000, 10_000 + (ROUNDS or 12)), folder, (DataError,))
    print(name, dict(found))
    assert set(found) <= {"error", "same"}, found


def check_and_summarise(path: Path) -> Any:
    faults = check(path)
    if faults:
        raise DataError(str(faults[0]))
    return vars(summary(path))


@pytest.mark.parametrize("name", ["robomimic HDF5", "ManiSkill HDF5", "ManiSkill JSON"])
def test_check_of_a_damaged_file_ends_in_a_clear_error_or_a_summary(name: str, tmp_path: Path) -> None:
    path = (
        write_robomimic(tmp_path / "demos.hdf5") if "robomimic" in name else write_maniskill(tmp_path, obs_mode="state")
    )
    (tmp_path / "copy").mkdir()
    found = outcomes(check_and_summarise, path, FORMATS[name][1], range(ROUNDS or 25), tmp_path / "copy", (DataError,))
    print(name, dict(found))
    assert set(found) <= {"error", "same", "different"}, found
