"""All demonstration datamodules fulfil the batch contract of `datamodules.batch`."""

from pathlib import Path

import pytest
import torch

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.checks import check, summary
from tests import cases

DEMONSTRATIONS = {
    part.__name__: build for part, build in cases.DATAMODULES.items() if issubclass(part, DemonstrationDataModule)
}
HORIZON = 3


@pytest.fixture(params=DEMONSTRATIONS)
def data(request: pytest.FixtureRequest, tmp_path: Path) -> DemonstrationDataModule:
    if request.param == "LeRobotDataModule":
        pytest.importorskip("pyarrow")
        pytest.importorskip("av")
    made: DemonstrationDataModule = DEMONSTRATIONS[request.param](tmp_path)
    made.setup("fit")
    return made


def test_batches_have_the_shapes_types_and_ranges(data: DemonstrationDataModule) -> None:
    for batch in [*data.train_dataloader(), *data.val_dataloader()]:
        size = len(batch["demo"])
        assert batch["actions"].shape == (size, HORIZON, data.action_dim)
        assert batch["actions"].dtype == torch.float32
        assert batch["actions"].abs().max() <= 1.0
        assert batch["mask"].shape == (size, HORIZON)
        assert batch["mask"].dtype == torch.bool
        assert batch["demo"].dtype == batch["start"].dtype == torch.int64
        assert int(batch["demo"].max()) < len(data.demos)
        shapes = {key: tuple(value.shape) for key, value in batch["obs"].items()}
        assert shapes == {key: (size, HORIZON, *spec.shape) for key, spec in data.obs_specs.items()}
        for key, value in batch["obs"].items():
            assert str(value.dtype) == f"torch.{data.obs_specs[key].dtype}", key
            assert (value.dtype == torch.uint8) == (data.obs_specs[key].kind == "image"), key


def test_padding_repeats_the_last_real_step(data: DemonstrationDataModule) -> None:
    n_padded = 0
    for batch in data.train_dataloader():
        for values in (batch["actions"], *batch["obs"].values()):
            for row, mask in zip(values, batch["mask"], strict=True):
                last = int(mask.nonzero().max())
                n_padded += HORIZON - 1 - last
                assert torch.equal(row[last:], row[last : last + 1].expand_as(row[last:]))
    assert n_padded > 0


def test_statistics_are_finite_and_have_the_sizes_of_their_keys(data: DemonstrationDataModule) -> None:
    statistics = data.statistics()
    assert "actions" in statistics
    for key, value in statistics.items():
        size = data.action_dim if key == "actions" else data.obs_specs[key].shape[-1]
        for numbers in (value.mean, value.std, value.min, value.max):
            assert torch.as_tensor(numbers).shape == (size,), key
            assert torch.isfinite(torch.as_tensor(numbers)).all(), key


def test_data_check_reads_the_format(data: DemonstrationDataModule) -> None:
    # A format that is missing in `FORMATS` is reported as a file of another format.
    assert check(data.file.path) == []
    facts = summary(data.file.path)
    assert facts.n_demos == len(data.demos)
    assert data.task in facts.content
    assert len(facts.action_min) == data.action_dim
