"""Shuffling that is reproducible after a resume and shared by several processes."""

import os
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import DistributedSampler


class EpochShuffle(DistributedSampler[int]):
    """Sampler whose order depends only on the seed and the epoch, distributed over the processes of a run.

    torch's own sampler draws from the global generator, whose state differs between a resumed and an uninterrupted
    run. Each process takes every `n_ranks`-th window of a common order, so that the batches of all processes together
    equal those of one process with the total batch size. All processes get the same number of windows: the first
    windows of the order are repeated at its end. Lightning sets the epoch of a sampler and does not replace a
    DistributedSampler.

    Args:
        data_source: the data set to shuffle; only its length is used.
        seed: seed of all epochs, the same in all processes.
        rank: rank of this process.
        n_ranks: number of processes.
    """

    def __init__(self, data_source: Sized, seed: int, rank: int = 0, n_ranks: int = 1) -> None:
        super().__init__(data_source, n_ranks, rank, seed=seed % 2**63)  # type: ignore[arg-type]
        self.n_skipped = 0

    def __iter__(self) -> Iterator[int]:
        """Iterate over this process's windows; skip the first `n_skipped` once."""
        generator = torch.Generator().manual_seed((self.seed + self.epoch) % 2**63)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        mine = order.repeat(-(-self.total_size // max(len(order), 1)))[self.rank : self.total_size : self.num_replicas]
        first, self.n_skipped = self.n_skipped, 0
        yield from mine[first:].tolist()


def run_seed(n_ranks: int) -> int:
    """Return the seed of `seed_everything`; without it, torch's initial seed, or 0 if there are several processes."""
    return int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed() if n_ranks == 1 else 0))
