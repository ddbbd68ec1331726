"""Which demos of a file are used for training and for validation."""

from collections.abc import Sequence
from dataclasses import dataclass

from datamodules.batch import Fold
from datamodules.errors import DataError, check_at_least
from datamodules.formats.demo_file import DemoFile
from datamodules.windowing.split import leave_out, split_demos


@dataclass(frozen=True)
class DemoSelection:
    """The arguments of a datamodule that select demos.

    Attributes:
        filters: filter keys of the training demos and of the validation demos.
        validation_fraction: fraction of the demos to hold out when no filter selects them.
        split_seed: seed of the split and of the folds.
        n_demos: number of training demos to use, from the first; None for all.
        fold: the fold of the training demos to leave out, from 0; None for none.
        n_folds: number of folds.

    Raises:
        DataError: a number is out of range.
    """

    filters: tuple[str | None, str | None]
    validation_fraction: float
    split_seed: int
    n_demos: int | None
    fold: int | None
    n_folds: int

    def __post_init__(self) -> None:
        check_at_least(1, n_demos=self.n_demos)
        if not 0.0 <= self.validation_fraction < 1.0:
            raise DataError(
                f"validation_fraction must be at least 0 and below 1, got {self.validation_fraction}; 0 trains on "
                "every demo."
            )
        check_at_least(2, n_folds=self.n_folds)
        if self.fold is not None and not 0 <= self.fold < self.n_folds:
            raise DataError(f"fold must be from 0 to n_folds - 1 = {self.n_folds - 1}, got {self.fold}.")

    def split(self, file: DemoFile, demos: Sequence[str]) -> tuple[list[str], list[str]]:
        """Split demos into the first `n_demos` training demos, and validation demos; see `split_demos`.

        Raises:
            DataError: the file lacks a filter key, or there are fewer training demos than `n_demos`, or none.
        """
        train, validation = split_demos(file, demos, *self.filters, self.validation_fraction, self.split_seed)
        if self.n_demos is not None and self.n_demos > len(train):
            raise DataError(
                f"{file.path}: expected n_demos to be at most the {len(train)} training demos, got {self.n_demos}."
            )
        return train[: self.n_demos], validation

    def without_fold(self, file: DemoFile, train: list[str]) -> tuple[list[str], Fold | None]:
        """Return the training demos outside the fold, and the fold; all of them and None without one.

        Raises:
            DataError: there are fewer demos than folds.
        """
        if self.fold is None:
            return train, None
        train, outside = leave_out(file, train, self.fold, self.n_folds, self.split_seed)
        return train, {"fold": self.fold, "n_folds": self.n_folds, "demos": outside}
