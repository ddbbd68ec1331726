"""Keeping a batch element that met NaN or infinity from harming the others.

Masking its result is not enough: in the backward pass a zero gradient meets its NaN activations, and 0 · NaN = NaN
lands in the parameters' gradients. So a failed element is computed as a copy of a healthy one, and the copy's result
is replaced: its gradient is then a true zero.
"""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.trajopt.tree import Record, leaves, map_tensors, per_element


def is_finite(tensor: Tensor) -> Tensor:
    """Mark the batch elements (B,) of a `tensor` (B, ...) that hold neither NaN nor infinity."""
    if not tensor.is_floating_point() or tensor[:1].numel() == 0:
        return torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    # Neither NaN nor infinity is below infinity. `torch.isfinite` is four operations, and this is asked at every step.
    sizes = tensor.detach()
    sizes = torch.linalg.vector_norm(sizes.flatten(1), torch.inf, dim=1) if sizes.ndim > 1 else sizes.abs()
    return sizes < torch.inf


def all_finite(record: Record) -> Tensor:
    """Mark the batch elements (B,) of which no tensor of a record holds NaN or infinity."""
    return torch.stack([is_finite(tensor) for tensor in leaves(record)]).all(dim=0)


def stand_in(failed: Tensor, record: Record) -> Record:
    """Replace the `failed` (B,) elements of a record by constant copies of the first healthy one."""
    donor = (~failed).int().argmax().view(1)

    def replace(tensor: Tensor) -> Tensor:
        return torch.where(per_element(failed, tensor), tensor.detach().index_select(0, donor), tensor)

    return map_tensors(replace, record)


def sever(tensor: Tensor, anchor: Tensor) -> Tensor:
    """Make `tensor` part of `anchor`'s graph, but let no gradient through.

    For a batch of which nothing is left: `backward()` on the result runs and leaves the parameters' gradients alone.
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
        # An undefined gradient, unlike zeros, is not multiplied with the NaN it meets on its way.
        del ctx, gradients
        return None, None
