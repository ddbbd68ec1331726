"""Shuffling that a resumed run repeats."""

from collections.abc import Iterator, Sized

import torch
from torch.utils.data import RandomSampler


class EpochShuffle(RandomSampler):
    """An order that depends on the seed and the epoch alone.

    torch's own sampler draws from the global generator, whose state after a resume differs from that of a run that
    was never interrupted. Lightning tells samplers the epoch, and, knowing this one as a RandomSampler, replaces it
    by a shuffling DistributedSampler when there are several processes.

    Args:
        data_source: what to shuffle; only its length counts.
        seed: the seed of all epochs.
    """

    def __init__(self, data_source: Sized, seed: int) -> None:
        super().__init__(data_source)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of an epoch; Lightning calls this."""
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self._seed + self._epoch) % 2**63)
        yield from torch.randperm(self.num_samples, generator=generator).tolist()
