"""`RobomimicDataModule` reads files of IsaacLab, MimicGen and LIBERO, whose keys are named in the configuration."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from datamodules import RobomimicDataModule
from datamodules.actions.units import UNCHANGED
from datamodules.errors import DataError
from datamodules.formats.checks import check, summary
from tests import layouts

Write = Callable[[Path], Path]
FILES: dict[str, tuple[Write, dict[str, int], str, dict[str, Any]]] = {
    "isaaclab": (
        layouts.write_isaaclab,
        {"policy/joint_pos": 9, "subtask_terms/grasp_1": 1},
        "rgb_camera/table_cam",
        {},
    ),
    "mimicgen": (
        layouts.write_mimicgen,
        {"object": 10, "robot0_eef_pos": 3},
        "agentview_image",
        {"robosuite": "1.4"},
    ),
    "libero": (
        layouts.write_libero,
        {"ee_states": 6, "gripper_states": 2, "joint_states": 7},
        "agentview_rgb",
        {"robosuite": "1.4"},
    ),
}
"""Writer, sizes of observations, key of the images, and interface."""


@pytest.fixture(params=FILES)
def recorder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def path(recorder: str, tmp_path: Path) -> Path:
    return FILES[recorder][0](tmp_path / "demos.hdf5")


def datamodule(recorder: str, path: Path, **options: Any) -> RobomimicDataModule:
    _, sizes, image, _ = FILES[recorder]
    return RobomimicDataModule(
        str(path), list(sizes), 7, [image], horizon=3, n_obs_steps=2, batch_size=4, validation_fraction=0.0, **options
    )


def test_the_check_finds_no_fault(recorder: str, path: Path) -> None:
    assert check(path) == []
    facts = summary(path)
    assert (facts.n_demos, facts.n_steps) == (3, sum(layouts.LENGTHS))
    for key, size in FILES[recorder][1].items():
        assert facts.shapes[f"obs/{key}"] == (size,)


@pytest.mark.parametrize("cached", [True, False])
def test_windows_equal_the_file(recorder: str, path: Path, cached: bool) -> None:
    _, sizes, image, interface = FILES[recorder]
    data = datamodule(recorder, path, cache_low_dim=cached, cache_images=cached)
    assert data.interface == {**UNCHANGED, **interface}
    data.setup()
    batches = list(data.predict_dataloader())
    assert sum(len(batch["actions"]) for batch in batches) == sum(layouts.LENGTHS)
    with h5py.File(path, "r") as file:
        demo = file["data/demo_0"]
        # The first window of the third batch row ends at step 2.
        batch, step = batches[0], 2
        for key, size in sizes.items():
            stored = demo[f"obs/{key}"][step - 1 : step + 1].astype(np.float32).reshape(2, size)
            np.testing.assert_array_equal(batch["obs"][key][step][:2], stored)
        pixels = demo[f"obs/{image}"][step].transpose(2, 0, 1)
        np.testing.assert_array_equal(batch["obs"][image][step][1], pixels)
        np.testing.assert_array_equal(batch["actions"][step][1], demo["actions"][step])
    assert set(data.statistics()) == {*sizes, "actions"}


def test_a_missing_key_is_named_with_the_existing_ones(recorder: str, path: Path) -> None:
    data = RobomimicDataModule(str(path), ["robot0_joint_vel"], 7)
    known = next(iter(FILES[recorder][1]))
    with pytest.raises(DataError, match=rf"expected the observation 'robot0_joint_vel' in `obs`, found .*{known}"):
        data.setup()


def test_demos_that_disagree_about_the_axes_of_a_number_are_refused(tmp_path: Path) -> None:
    path = layouts.write_isaaclab(tmp_path / "demos.hdf5")
    with h5py.File(path, "r+") as file:
        del file["data/demo_1/obs/subtask_terms/grasp_1"]
        file["data/demo_1/obs/subtask_terms/grasp_1"] = np.zeros((layouts.LENGTHS[1], 2), dtype=bool)
    with pytest.raises(DataError, match=r"demo_1: expected obs/subtask_terms/grasp_1 of shape \(\) .* found \(2,\)"):
        datamodule("isaaclab", path).setup()
