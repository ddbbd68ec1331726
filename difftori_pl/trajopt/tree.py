"""Operations on records: dataclasses, dictionaries, lists or tuples of batch-first tensors."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Record = TypeVar("Record")


def map_tensors(function: Callable[..., Tensor], record: Record, *others: Record) -> Record:
    """Apply `function` to the corresponding tensors of records with the same structure.

    Args:
        function: takes one tensor of each record and returns one tensor.
        record: a tensor, or a dataclass, dictionary, list or tuple of tensors and further records. Other values
            are copied unchanged.
        others: records with the structure of the first.
    """
    parts: tuple[Any, ...] = (record, *others)
    if isinstance(record, Tensor):
        return cast(Record, function(*parts))
    if is_dataclass(record):
        names = [field.name for field in fields(record)]
        mapped = {name: map_tensors(function, *(getattr(part, name) for part in parts)) for name in names}
        return replace(parts[0], **mapped)
    if isinstance(record, Mapping):
        return cast(Record, {key: map_tensors(function, *(part[key] for part in parts)) for key in record})
    if isinstance(record, list | tuple):
        values = [map_tensors(function, *elements) for elements in zip(*parts, strict=True)]
        return cast(Record, type(record)(*values) if hasattr(record, "_fields") else type(record)(values))
    return record


def leaves(record: Record) -> list[Tensor]:
    """List the tensors of a record."""
    found: list[Tensor] = []

    def collect(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    map_tensors(collect, record)
    return found


def repeat(record: Record, n_copies: int) -> Record:
    """Repeat each batch element `n_copies` times, with copies of an element adjacent."""
    return map_tensors(lambda tensor: tensor.repeat_interleave(n_copies, dim=0), record)


def select(mask: Tensor, if_true: Record, if_false: Record) -> Record:
    """Take each batch element from `if_true` where `mask` (B,) holds, else from `if_false`."""
    return map_tensors(lambda a, b: torch.where(per_element(mask, a), a, b), if_true, if_false)


def detach(record: Record) -> Record:
    """Detach every tensor of `record` from the autograd graph."""
    return map_tensors(lambda tensor: tensor.detach(), record)


def concatenate(records: list[Record]) -> Record:
    """Concatenate records along the batch dimension."""
    return map_tensors(lambda *tensors: torch.cat(tensors), *records)


def per_element(mask: Tensor, like: Tensor) -> Tensor:
    """Reshape `mask` (B,) so that it broadcasts over the trailing dimensions of `like` (B, ...)."""
    return mask.view(-1, *(1,) * (like.ndim - 1))
