"""Shuffling that a resumed run repeats, and that several processes share."""

import os
from collections.abc import Iterator, Sized

import torch
from torch.utils.data import DistributedSampler


class EpochShuffle(DistributedSampler[int]):
    """An order that depends on the seed and the epoch alone, dealt out over the processes of a run.

    torch's own sampler draws from the global generator, whose state after a resume differs from that of a run that
    was never interrupted. Each process takes every `n_ranks`-th window of the same order, so that the batches of all
    processes together are those of one process with the whole batch; all get equally many, the first windows of the
    order filling up the last batch. Lightning tells samplers the epoch, and leaves a DistributedSampler as it is.

    Args:
        data_source: what to shuffle; only its length counts.
        seed: the seed of all epochs, the same in all processes.
        rank: number of this process.
        n_ranks: number of processes.
    """

    def __init__(self, data_source: Sized, seed: int, rank: int = 0, n_ranks: int = 1) -> None:
        super().__init__(data_source, n_ranks, rank, seed=seed % 2**63)  # type: ignore[arg-type]
        self.n_skipped = 0

    def __iter__(self) -> Iterator[int]:
        """This process's windows, but for the first `n_skipped`; those are skipped once."""
        generator = torch.Generator().manual_seed((self.seed + self.epoch) % 2**63)
        order = torch.randperm(len(self.dataset), generator=generator)  # type: ignore[arg-type]
        mine = order.repeat(-(-self.total_size // max(len(order), 1)))[self.rank : self.total_size : self.num_replicas]
        first, self.n_skipped = self.n_skipped, 0
        yield from mine[first:].tolist()


def run_seed(n_ranks: int) -> int:
    """The seed of `seed_everything`, which all processes know; without one, torch's own if there is one process."""
    return int(os.environ.get("PL_GLOBAL_SEED", torch.initial_seed() if n_ranks == 1 else 0))
