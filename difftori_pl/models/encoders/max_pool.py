"""Max pooling of features over the points of a cloud, as in PointNet (arXiv:1612.00593)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


def max_pool(features: Callable[[Tensor, Tensor], Tensor], points: Tensor, state: Tensor, training: bool) -> Tensor:
    """Return max_n features(points[b, n], state[b]) for each feature.

    Only points that attain the maximum of some feature receive a gradient (PointNet's "critical points", at most F of
    N). In training, all points are therefore evaluated without a graph, and the critical points a second time with
    one. Values and gradients are the same; time falls to a third and memory to a tenth of those with a full graph.

    Args:
        features: maps points (..., C) and the state (..., D) of their cloud to features (..., F), each point
            independently.
        points: clouds (B, N, C).
        state: state (B, D) that accompanies each cloud.
        training: evaluate in two passes. The number of critical points depends on the data, so this is not exportable.

    Returns:
        The pooled features (B, F).
    """
    if not training:
        return features(points, state.unsqueeze(1)).amax(1)
    with torch.no_grad():
        # Seven times as fast on a CPU as argmax(1), which does not read memory in order.
        every = features(points, state.unsqueeze(1)).mT
        _, largest = nn.functional.adaptive_max_pool1d(every, 1, return_indices=True)
    # In torch 2.8, autocast would reuse the weight casts that were just made without a graph.
    torch.clear_autocast_cache()
    largest = largest.squeeze(-1)  # (B, F)
    critical = torch.zeros(points.shape[:2], dtype=torch.bool, device=points.device).scatter_(1, largest, True)
    cloud, _ = critical.nonzero(as_tuple=True)
    row = (critical.flatten().cumsum(0) - 1).view_as(critical)  # index of each critical point among all critical points
    return features(points[critical], state[cloud]).gather(0, row.gather(1, largest))
