"""Which demos train and which validate."""

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
    """Choose training and validation demos; both come back in natural order.

    Named filter keys are obeyed. Of a pair of which one is named, the other is the rest: all demos but the
    validation filter's, or a seeded part of the training filter's. If none is named, the file's own `train` and
    `valid` are used where it has both, because results on the official files are compared on that split; without
    them the split is drawn by the seed. A `validation_fraction` of 0 asks to train on every demo, so it also
    overrules the file's own split.

    Args:
        file: the file.
        demos: the names of the demos to choose from where no filter key does.
        train_filter: filter key of the training demos.
        validation_filter: filter key of the validation demos.
        validation_fraction: part of the demos to hold out where a seed decides, in [0, 1).
        seed: seed of the split.

    Raises:
        DataError: there is no such filter key, or no demo is left to train on.
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


def _draw(demos: Sequence[str], fraction: float, seed: int) -> tuple[list[str], list[str]]:
    # At least one demo on each side, so that a tiny file still gives a validation loss.
    n_held_out = min(max(round(fraction * len(demos)), 1), len(demos) - 1) if fraction > 0.0 else 0
    held_out = set(np.random.default_rng(seed).permutation(len(demos))[:n_held_out].tolist())
    return (
        [demo for i, demo in enumerate(demos) if i not in held_out],
        [demo for i, demo in enumerate(demos) if i in held_out],
    )
