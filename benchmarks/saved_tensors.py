"""Memory of the tensors that autograd saves for the backward pass."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


class SavedTensors(torch.autograd.graph.saved_tensors_hooks):
    """Context manager that counts the bytes of the tensors saved by autograd within it.

    A storage that is saved several times counts once.

    Args:
        exclude: tensors whose storages do not count, such as parameters and inputs.

    Attributes:
        now: bytes that are currently saved.
        peak: largest value of `now`.
    """

    def __init__(self, exclude: Iterable[Tensor] = ()) -> None:
        super().__init__(self._save, _Saved.get)
        self.now = self.peak = 0
        self._excluded = {tensor.untyped_storage().data_ptr() for tensor in exclude}
        self._n_references: dict[int, int] = {}

    def __enter__(self) -> SavedTensors:
        super().__enter__()
        return self

    def _save(self, tensor: Tensor) -> _Saved:
        storage = tensor.untyped_storage()
        saved = _Saved(self, storage.data_ptr(), storage.nbytes(), tensor)
        if saved.address not in self._excluded:
            if saved.address not in self._n_references:
                self.now += saved.size
                self.peak = max(self.peak, self.now)
            self._n_references[saved.address] = self._n_references.get(saved.address, 0) + 1
        return saved

    def _release(self, saved: _Saved) -> None:
        if saved.address not in self._excluded:
            self._n_references[saved.address] -= 1
            if self._n_references[saved.address] == 0:
                del self._n_references[saved.address]
                self.now -= saved.size


@dataclass(eq=False)
class _Saved:
    """A saved tensor that reports when autograd releases it."""

    counter: SavedTensors
    address: int
    size: int
    tensor: Tensor

    def get(self) -> Tensor:
        return self.tensor

    def __del__(self) -> None:
        self.counter._release(self)
