"""What the processes of one run tell each other; each function is a collective, and does nothing where there is one."""

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor, distributed

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """A value of each process, in the order of their ranks; anything that can be pickled."""
    if not _several():
        return [value]
    found: list[T] = [value] * distributed.get_world_size()
    distributed.all_gather_object(found, value)
    return found


def total(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The sum over processes of each of some tensors, which are of one dtype; one exchange for all of them."""
    if not _several():
        return list(tensors)
    flat = torch.cat([tensor.flatten() for tensor in tensors])
    distributed.all_reduce(flat)
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    return [part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)]


def mean(tensors: Sequence[Tensor]) -> list[Tensor]:
    """As `total`, divided by the number of processes."""
    found = total(tensors)
    if _several():
        torch._foreach_div_(found, float(distributed.get_world_size()))
    return found


def _several() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1
