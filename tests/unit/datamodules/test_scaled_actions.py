"""`action_scaling` of the demonstration datamodules: inverse, interface, and refused data."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from datamodules import ManiSkillDataModule, MetaWorldDataModule, PushTDataModule, RobomimicDataModule
from datamodules.actions.scaling import ActionScaling
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.errors import DataError
from tests.data import write_maniskill, write_metaworld, write_pusht, write_robomimic

Build = Callable[..., DemonstrationDataModule]


def robomimic(folder: Path, **options: Any) -> RobomimicDataModule:
    path = folder / "demos.hdf5"
    return RobomimicDataModule(str(path if path.exists() else write_robomimic(path)), ["object"], 7, **options)


def maniskill(folder: Path, **options: Any) -> ManiSkillDataModule:
    path = folder / "trajectory.state.pd_ee_delta_pose.h5"
    return ManiSkillDataModule(str(path if path.exists() else write_maniskill(folder, obs_mode="state")), 7, **options)


def metaworld(folder: Path, **options: Any) -> MetaWorldDataModule:
    path = folder / "push.hdf5"
    return MetaWorldDataModule(
        "push-v3", str(path if path.exists() else write_metaworld(path, "push-v3")), ["state"], **options
    )


def pusht(folder: Path, **options: Any) -> PushTDataModule:
    return PushTDataModule(str(write_pusht(folder / "pusht.zarr")), **options)


FILES = {robomimic: "data/{}/actions", maniskill: "{}/actions", metaworld: "data/{}/actions"}


def in_metres(build: Build, folder: Path) -> None:
    """Write a file and multiply its actions by 3."""
    data = build(folder, validation_fraction=0.0)
    with h5py.File(data.file.path, "a") as file:
        for demo in data.demos:
            file[FILES[build].format(demo)][...] *= 3.0


@pytest.mark.parametrize("build", [robomimic, maniskill, metaworld, pusht])
@pytest.mark.parametrize("method", ["min_max", "mean_std"])
def test_the_recorded_scaling_restores_the_actions_of_the_file(build: Build, method: str, tmp_path: Path) -> None:
    if build in FILES:
        in_metres(build, tmp_path)
    data = build(tmp_path, action_scaling=method, validation_fraction=0.0, horizon=1, batch_size=1000)
    scaling = ActionScaling.from_interface(data.interface)
    assert scaling is not None
    assert scaling.method == method
    (batch,) = data.train_dataloader()
    assert batch["actions"].abs().max() == pytest.approx(1.0 / 1.05, rel=1e-5)  # the default margin
    for number, start, actions in zip(batch["demo"], batch["start"], batch["actions"], strict=True):
        stored = data.file.read(data.demos[int(number)], "actions")[int(start)]
        np.testing.assert_allclose(scaling.restore(actions[0]).numpy(), stored, rtol=0, atol=1e-6)


@pytest.mark.parametrize("build", [robomimic, maniskill, metaworld, pusht])
def test_unscaled_data_say_so(build: Build, tmp_path: Path) -> None:
    assert build(tmp_path).interface["action_scaling"] is None


@pytest.mark.parametrize("build", FILES)
def test_actions_outside_the_range_need_a_scaling(build: Build, tmp_path: Path) -> None:
    in_metres(build, tmp_path)
    with pytest.raises(DataError, match=r"expected actions in \[-1, 1\], found .* data\.init_args\.action_scaling to"):
        build(tmp_path).setup()


def test_the_scaling_is_fitted_to_the_training_demos_only(tmp_path: Path) -> None:
    few = robomimic(tmp_path, action_scaling="min_max", n_demos=1, action_margin=0.0)
    actions = few.file.read(few.demos[int(next(iter(few.train_dataloader()))["demo"][0])], "actions")
    scaling = ActionScaling.from_interface(few.interface)
    assert scaling is not None
    torch.testing.assert_close(
        scaling.restore(torch.ones(7, dtype=torch.float64)), torch.from_numpy(actions.max(axis=0))
    )


def test_a_component_without_quantiles_is_refused_with_the_file(tmp_path: Path) -> None:
    write_robomimic(tmp_path / "demos.hdf5", [150, 150])
    data = robomimic(tmp_path, validation_fraction=0.0)
    with h5py.File(data.file.path, "a") as file:
        for demo in data.demos:
            file[f"data/{demo}/actions"][:, 6] = -1.0
        file[f"data/{data.demos[0]}/actions"][0, 6] = 1.0
    scaled = robomimic(tmp_path, action_scaling="quantiles", validation_fraction=0.0)
    with pytest.raises(DataError, match=r"demos\.hdf5: action_scaling quantiles .*a constant -1 in component 6"):
        scaled.setup()
