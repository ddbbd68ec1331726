"""Data augmentation of point clouds."""

import torch
from torch import Tensor, nn


class CloudAugmentation(nn.Module):
    """Translate, rotate and jitter the points in training mode only.

    All frames of a window get the same translation and rotation, because a scene does not jump between frames. Jitter
    is independent for each point. Actions are not transformed: use translation and rotation only if the actions are
    invariant to them.

    Args:
        jitter: standard deviation of each coordinate of each point, in metres.
        translation: largest shift along each axis, in metres.
        rotation: largest rotation about the frame's z axis, in radians.
    """

    def __init__(self, jitter: float = 0.0, translation: float = 0.0, rotation: float = 0.0) -> None:
        super().__init__()
        self.jitter = jitter
        self.translation = translation
        self.rotation = rotation

    def forward(self, points: Tensor) -> Tensor:
        """Augment coordinates (B, T, N, 3), in metres."""
        if not self.training:
            return points
        n_windows = len(points)
        if self.rotation:
            angle = self.rotation * _uniform(points, n_windows)
            cosine, sine, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
            turn = torch.stack([cosine, sine, zero, -sine, cosine, zero, zero, zero, one], dim=-1)
            points = points @ turn.view(n_windows, 1, 3, 3)
        if self.translation:
            points = points + self.translation * _uniform(points, n_windows, 1, 1, 3)
        if self.jitter:
            points = points + self.jitter * torch.randn_like(points)
        return points


def _uniform(like: Tensor, *shape: int) -> Tensor:
    return 2 * torch.rand(shape, dtype=like.dtype, device=like.device) - 1
