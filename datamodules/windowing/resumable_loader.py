"""A data loader that can resume in the middle of an epoch."""

import time
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.windowing.shuffle import EpochShuffle

SIGNAL_SECONDS = 3.0  # to wait for the signal of a dead worker


class ResumableLoader(DataLoader[Batch]):
    """Loader over an `EpochShuffle` that stores the number of delivered batches in Lightning's checkpoints.

    Batches that workers have prefetched are not counted. Takes the arguments of `DataLoader`.
    """

    _n_given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """Iterate over the remaining batches of the epoch.

        Raises:
            RuntimeError: a worker process died.
        """
        # `Trainer(overfit_batches=...)` replaces the sampler.
        self._n_given = getattr(self.sampler, "n_skipped", 0) // (self.batch_size or 1)
        try:
            for batch in super().__iter__():
                # Count before yielding: a checkpoint that is saved during the training step must include this batch.
                self._n_given += 1
                yield batch
        except (ConnectionError, EOFError) as error:
            # A worker died between announcing a batch and handing it over. The signal of its death may arrive later,
            # and torch raises from whatever statement runs then: wait for it here.
            time.sleep(SIGNAL_SECONDS)
            raise RuntimeError(f"DataLoader worker died before its batch was fetched: {error!r}") from error

    def state_dict(self) -> dict[str, Any]:
        """Return the number of delivered batches, for Lightning's checkpoint."""
        return {"n_batches": self._n_given % max(len(self), 1)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Skip the batches that were already delivered; Lightning calls this before the epoch begins."""
        if isinstance(self.sampler, EpochShuffle):
            self.sampler.n_skipped = state_dict["n_batches"] * (self.batch_size or 1)
