"""The split into training and validation demos."""

from collections.abc import Sequence

import numpy as np

from datamodules.errors import DataError
from datamodules.formats.demo_file import DemoFile


def split_demos(
    file: DemoFile,
    demos: Sequence[str],
    train_filter: str | None,
    validation_filter: str | None,
    validation_fraction: float,
    seed: int,
) -> tuple[list[str], list[str]]:
    """Split demos into training and validation demos, both in natural order.

    - Both filters given: they define the two sets.
    - Only the validation filter given: all other demos are training demos.
    - Only the training filter given: a random fraction of its demos is held out.
    - No filter given: the file's filter keys `train` and `valid` are used if it has both, because published results on
      the official files use that split; otherwise a random fraction is held out. With a `validation_fraction` of 0,
      every demo is a training demo, even if the file has these keys.

    Args:
        file: the file.
        demos: the names of the demos to split if no filter key selects them.
        train_filter: filter key of the training demos.
        validation_filter: filter key of the validation demos.
        validation_fraction: fraction of the demos to hold out in a random split, in [0, 1).
        seed: seed of a random split.

    Raises:
        DataError: the file lacks a filter key, or no training demo is left.
    """
    no_filter_is_named = train_filter is None and validation_filter is None
    if no_filter_is_named and validation_fraction > 0.0 and {"train", "valid"} <= set(file.filters()):
        train_filter, validation_filter = "train", "valid"

    train = list(demos) if train_filter is None else file.filtered(train_filter)
    if validation_filter is not None:
        validation = file.filtered(validation_filter)
        if train_filter is None:
            train = [demo for demo in train if demo not in set(validation)]
    else:
        train, validation = _draw(train, validation_fraction, seed)
    if not train:
        raise DataError(
            f"{file.path}: no demo is left to train on. Choose another filter key or a smaller validation_fraction."
        )
    return train, validation


def leave_out(file: DemoFile, demos: Sequence[str], fold: int, n_folds: int, seed: int) -> tuple[list[str], list[str]]:
    """Divide demos at random into `n_folds` folds, and return the demos outside fold `fold` and those in it, in order.

    Args:
        file: the file, for the error message.
        demos: the demos to divide; each is in exactly one fold.
        fold: the fold, from 0.
        n_folds: number K of folds of equal size, up to one demo.
        seed: seed of the division.

    Raises:
        DataError: there are fewer demos than folds.
    """
    if n_folds > len(demos):
        raise DataError(f"{file.path}: expected n_folds to be at most the {len(demos)} training demos, got {n_folds}.")
    order = np.random.default_rng([seed, n_folds]).permutation(len(demos))
    inside = set(order[fold::n_folds].tolist())
    return (
        [demo for i, demo in enumerate(demos) if i not in inside],
        [demo for i, demo in enumerate(demos) if i in inside],
    )


def _draw(demos: Sequence[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    # At least one demo in each set, so that a tiny file still gives a validation loss.
    n_held_out = min(max(round(fraction * len(demos)), 1), len(demos) - 1) if fraction > 0.0 else 0
    held_out = set(np.random.default_rng(seed).permutation(len(demos))[:n_held_out].tolist())
    return (
        [demo for i, demo in enumerate(demos) if i not in held_out],
        [demo for i, demo in enumerate(demos) if i in held_out],
    )
