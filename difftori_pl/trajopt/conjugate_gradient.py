"""Conjugate gradients: solve a batch of linear systems with matrix-vector products only."""

from collections.abc import Callable

import torch
from torch import Tensor

from difftori_pl.trajopt.tree import per_element

MAX_UNCHECKED = 8
"""Largest number of products between two checks whether all elements are done; a check waits for the device."""


def conjugate_gradient(
    product: Callable[[Tensor], Tensor],
    target: Tensor,
    max_steps: int,
    tolerance: float,
    wait_for_all: bool = False,
) -> Tensor:
    """Solve M x = `target` for a symmetric M, separately for each batch element.

    An element stops at the first direction of non-positive curvature and keeps its current solution (Steihaug's rule,
    SIAM J. Numer. Anal. 20(3), 1983). If the very first direction has negative curvature, its absolute value is used.

    Args:
        product: computes M x for x (B, H, A), element by element.
        target: right-hand side (B, H, A).
        max_steps: largest number of products; H · A suffice in exact arithmetic.
        tolerance: an element is done when its residual norm has fallen by this factor.
        wait_for_all: whether to stop once all elements are done. This reads a value on the host after every H · A
            products, with which most systems are solved, or after every eighth if that is earlier.

    Returns:
        x (B, H, A).
    """
    solution, residual, direction = torch.zeros_like(target), target, target
    square = _dot(residual, residual)
    enough = tolerance**2 * square
    active = square > 0
    period = min(target[0].numel(), MAX_UNCHECKED)
    for step in range(max_steps):
        if wait_for_all and step > 0 and step % period == 0 and not active.any():
            break
        image = product(direction)
        curvature = _dot(direction, image)
        if step == 0:
            reversed_length = torch.where(active & (curvature < 0), square / curvature.abs(), 0.0)
            solution = per_element(reversed_length, target) * target
        active = active & (curvature > 0)
        length = torch.where(active, square / torch.where(active, curvature, 1.0), 0.0)
        solution = solution + per_element(length, target) * direction
        residual = residual - per_element(length, target) * image.nan_to_num()
        previous, square = square, _dot(residual, residual)
        active = active & (square > enough)
        ratio = torch.where(active, square / torch.where(active, previous, 1.0), 0.0)
        direction = residual + per_element(ratio, target) * direction
    return solution


def _dot(first: Tensor, second: Tensor) -> Tensor:
    return (first * second).sum(dim=(1, 2))
