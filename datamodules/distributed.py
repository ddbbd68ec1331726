"""Collective operations over the processes of a run; without several processes they return their input."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """Return the values of all processes in rank order; values must be picklable."""
    if not _several():
        return [value]
    found: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def total(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Sum each tensor over the processes, with one exchange for all; the tensors must have the same dtype."""
    if not _several():
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Average each tensor over the processes, with one exchange for all; the tensors must have the same dtype."""
    found = total(tensors)
    if _several():
        torch._foreach_div_(found, float(distributed.get_world_size()))
    return found


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
