from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datamodules import DataError, MetaWorldDataModule, ObservationSpec
from datamodules.actions.units import UNCHANGED
from tests.data import METAWORLD_CLOUD, write_metaworld


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_metaworld(tmp_path / "push-v3.hdf5", "push-v3")


def test_batches_hold_clouds_and_hand_positions(file: Path) -> None:
    data = MetaWorldDataModule("push-v3", str(file), horizon=7, n_obs_steps=2, batch_size=5, validation_fraction=0.34)
    batch = next(iter(data.val_dataloader()))
    assert {key: value.shape for key, value in batch["obs"].items()} == {
        "agent_pos": (5, 8, 9),
        "point_cloud": (5, 8, 16, 3),
    }
    assert batch["actions"].shape == (5, 8, 4)
    assert data.obs_specs == {"agent_pos": ObservationSpec.vector(9), "point_cloud": ObservationSpec.point_cloud(16, 3)}
    demo, start = data.demos[int(batch["demo"][2])], int(batch["start"][2])
    with h5py.File(file, "r") as raw:
        expected = raw[f"data/{demo}/obs/point_cloud"][start]
    torch.testing.assert_close(batch["obs"]["point_cloud"][2, 0], torch.from_numpy(expected.astype(np.float32)))


def test_statistics_exclude_clouds(file: Path) -> None:
    data = MetaWorldDataModule("push-v3", str(file), ["state", "point_cloud"])
    assert set(data.statistics()) == {"state", "actions"}


def test_interface_matches_the_environment(file: Path) -> None:
    clouds = MetaWorldDataModule("push-v3", str(file))
    assert clouds.interface == {**UNCHANGED, "env_id": "push-v3", **METAWORLD_CLOUD}
    states = MetaWorldDataModule("push-v3", str(file), ["state"])
    assert states.interface == {**UNCHANGED, "env_id": "push-v3"}


def test_another_task_is_refused(file: Path) -> None:
    with pytest.raises(DataError, match=r"expected demonstrations of reach-v3, found those of push-v3\. Set data\."):
        MetaWorldDataModule("reach-v3", str(file)).setup()
    with h5py.File(file, "a") as raw:
        del raw["data"].attrs["env_args"]
    with pytest.raises(DataError, match="found those of no task"):
        MetaWorldDataModule("push-v3", str(file)).setup()


def test_fault_messages(file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such file\. Record it: `difftori demos metaworld"):
        MetaWorldDataModule("push-v3", str(tmp_path / "missing.hdf5")).setup()
    with h5py.File(file, "a") as raw:
        raw["data/demo_1/actions"][3, 2] = 1.5
    with pytest.raises(DataError, match=r"demo_1, step 3: expected actions in \[-1, 1\], found 1.5"):
        MetaWorldDataModule("push-v3", str(file), ["state"]).setup()
    with h5py.File(file, "a") as raw:
        raw["data/demo_1/actions"][3, 2] = 0.5
        del raw["data/demo_2/obs/point_cloud"]
    with pytest.raises(DataError, match="expected the observation 'point_cloud' in `obs`, found agent_pos, state"):
        MetaWorldDataModule("push-v3", str(file), ["point_cloud"]).setup()
