"""Folds of the training demonstrations, for cross-fitted proposals."""

from pathlib import Path

import pytest

from datamodules import DataError, RobomimicDataModule
from tests.data import write_robomimic


@pytest.fixture
def path(tmp_path: Path) -> Path:
    names = [f"demo_{i}" for i in range(9)]
    masks = {"train": names[:7], "valid": names[7:], "few": names[:4]}
    return write_robomimic(tmp_path / "demos.hdf5", [5] * 9, masks=masks)


def datamodule(path: Path, **arguments: object) -> RobomimicDataModule:
    return RobomimicDataModule(path=str(path), obs_keys=["object"], action_dim=7, horizon=2, **arguments)


def numbers(loader: object) -> set[int]:
    return {int(number) for batch in loader for number in batch["demo"]}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "options",
    [{}, {"validation_fraction": 0.0}, {"train_filter": "few", "validation_fraction": 0.25}, {"n_demos": 5}],
    ids=["filter keys of the file", "every demo", "random split of a filter key", "first demos"],
)
@pytest.mark.parametrize("n_folds", [2, 3])
def test_the_folds_divide_the_training_demos(path: Path, options: dict[str, object], n_folds: int) -> None:
    whole = datamodule(path, **options)
    folds = [datamodule(path, **options, fold=fold, n_folds=n_folds) for fold in range(n_folds)]
    assert whole.left_out is None
    left_out = []
    for number, data in enumerate(folds):
        fold = data.left_out
        assert fold is not None
        assert (fold["fold"], fold["n_folds"]) == (number, n_folds)
        assert data.training_demos == [name for name in whole.training_demos if name not in fold["demos"]]
        assert data.demos == whole.demos
        assert numbers(data.train_dataloader()) == {data.demos.index(name) for name in data.training_demos}
        if options.get("validation_fraction") != 0.0:
            assert numbers(data.val_dataloader()) == numbers(whole.val_dataloader())
        left_out += fold["demos"]
    assert sorted(left_out) == sorted(whole.training_demos)
    sizes = [len(data.training_demos) for data in folds]
    assert max(sizes) - min(sizes) <= 1


def test_the_folds_depend_only_on_the_seed(path: Path) -> None:
    options = {"validation_fraction": 0.0, "fold": 0, "n_folds": 3}
    drawn = [datamodule(path, **options, split_seed=seed).left_out for seed in (0, 0, 1, 2)]
    assert drawn[0] == drawn[1]
    assert drawn[2] != drawn[0] or drawn[3] != drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fold": 2}, r"fold must be from 0 to n_folds - 1 = 1, got 2\."),
        ({"fold": -1}, r"fold must be from 0 to n_folds - 1 = 1, got -1\."),
        ({"fold": 0, "n_folds": 1}, "n_folds must be at least 2, got 1"),
    ],
)
def test_wrong_numbers_are_refused(path: Path, options: dict[str, int], message: str) -> None:
    with pytest.raises(DataError, match=message):
        datamodule(path, **options)


def test_more_folds_than_demos_are_refused(path: Path) -> None:
    with pytest.raises(DataError, match=r"expected n_folds to be at most the 7 training demos, got 8\."):
        datamodule(path, fold=0, n_folds=8).setup()
