"""Loaders of windows, and the message about a loader process that died."""

from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.windowing.resumable_loader import ResumableLoader
from datamodules.windowing.shuffle import EpochShuffle, run_seed
from datamodules.windowing.window_dataset import WindowDataset, as_it_is


def shuffled(
    dataset: WindowDataset, batch_size: int, n_workers: int, rank: int = 0, n_ranks: int = 1
) -> DataLoader[Batch]:
    """Return a loader that is reshuffled every epoch and can resume; the last batch may be smaller.

    Args:
        dataset: the windows.
        batch_size: number of windows in a batch.
        n_workers: number of worker processes.
        rank: number of this process.
        n_ranks: number of processes; each gets its share of the windows, see `EpochShuffle`.
    """
    sampler = EpochShuffle(dataset, run_seed(n_ranks), rank, n_ranks)
    return ResumableLoader(dataset, sampler=sampler, **_options(batch_size, n_workers))


def in_order(dataset: WindowDataset, batch_size: int, n_workers: int) -> DataLoader[Batch]:
    """Return a loader of the windows in file order."""
    return DataLoader(dataset, **_options(batch_size, n_workers))


def death_of_a_worker(exception: BaseException) -> str:
    """Return the reason if an exception comes from the death of a loader process, else an empty string."""
    # The signal of a dead worker interrupts any statement, such as a logger's that wraps the error.
    cause: BaseException | None = exception
    while cause is not None and not (isinstance(cause, RuntimeError) and "DataLoader worker" in str(cause)):
        cause = cause.__cause__ or cause.__context__
    return "" if cause is None else str(cause).strip().splitlines()[0]


def _options(batch_size: int, n_workers: int) -> dict[str, Any]:
    return {
        "batch_size": batch_size,
        "num_workers": n_workers,
        "persistent_workers": n_workers > 0,
        "pin_memory": torch.cuda.is_available(),
        "collate_fn": as_it_is,
    }
