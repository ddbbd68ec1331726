"""Isolation of batch elements with NaN or infinity from the others.

Masking the result of a failed element is not enough: in the backward pass its zero gradient is multiplied by NaN
activations, and 0 · NaN = NaN reaches the parameters' gradients. A failed element is therefore computed as a copy of a
healthy one and the copy's result is replaced, so that its gradient is exactly zero.
"""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.tree import Record, leaves, map_tensors, per_element


def is_finite(tensor: Tensor) -> Tensor:
    """Mark the batch elements (B,) of a `tensor` (B, ...) that hold neither NaN nor infinity."""
    if not tensor.is_floating_point() or tensor[:1].numel() == 0:
        return torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    # Runs at every step: comparing a norm with infinity is faster than the four operations of `torch.isfinite`.
    sizes = tensor.detach()
    sizes = torch.linalg.vector_norm(sizes.flatten(1), torch.inf, dim=1) if sizes.ndim > 1 else sizes.abs()
    return sizes < torch.inf


def all_finite(record: Record) -> Tensor:
    """Mark the batch elements (B,) that hold neither NaN nor infinity in any tensor of a record."""
    return torch.stack([is_finite(tensor) for tensor in leaves(record)]).all(dim=0)


def stand_in(failed: Tensor, record: Record) -> Record:
    """Replace the `failed` (B,) elements of a record by constant copies of the first healthy one."""
    donor = (~failed).int().argmax().view(1)

    def replace(tensor: Tensor) -> Tensor:
        return torch.where(per_element(failed, tensor), tensor.detach().index_select(0, donor), tensor)

    return map_tensors(replace, record)


def sever(tensor: Tensor, anchor: Tensor) -> Tensor:
    """Attach `tensor` to the graph of `anchor` without passing any gradient.

    For a batch in which all elements failed: `backward()` on the result runs and leaves the parameters' gradients
    unchanged.
    """
    severed: Tensor = _Sever.apply(tensor, anchor)  # type: ignore[no-untyped-call]
    return severed


class _Sever(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor, anchor: Tensor) -> Tensor:
        del ctx, anchor
        return tensor.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, None]:
        # Unlike zeros, an undefined gradient is not multiplied by NaN activations further back in the graph.
        del ctx, gradients
        return None, None
