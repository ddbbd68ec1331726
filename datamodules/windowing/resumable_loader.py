"""A loader that a run resumed in the middle of an epoch goes on with where it stopped."""

from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.windowing.shuffle import EpochShuffle


class ResumableLoader(DataLoader[Batch]):
    """A loader of an `EpochShuffle` whose state, the number of batches it gave, is in Lightning's checkpoints.

    Batches that workers have fetched ahead are not counted, whatever their number. Takes the arguments of `DataLoader`.
    """

    _n_given = 0

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]
        """The batches that are left of the epoch.

        Raises:
            RuntimeError: a worker died.
        """
        # `Trainer(overfit_batches=...)` puts another sampler here.
        self._n_given = getattr(self.sampler, "n_skipped", 0) // (self.batch_size or 1)
        try:
            for batch in super().__iter__():
                # Counted before it is given: a checkpoint that is saved while it is learned from comes after it.
                self._n_given += 1
                yield batch
        except (ConnectionError, EOFError) as error:
            # torch names a worker that died, but not where a batch that it had announced is still to be fetched.
            raise RuntimeError(f"DataLoader worker died before its batch was fetched: {error!r}") from error

    def state_dict(self) -> dict[str, Any]:
        """What Lightning puts into a checkpoint."""
        return {"n_batches": self._n_given % max(len(self), 1)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Skip the batches that were given; Lightning calls this before the epoch begins."""
        if isinstance(self.sampler, EpochShuffle):
            self.sampler.n_skipped = state_dict["n_batches"] * (self.batch_size or 1)
