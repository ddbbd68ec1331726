"""Random changes of point clouds in training."""

import torch
from torch import Tensor, nn


class CloudAugmentation(nn.Module):
    """Move, turn and shake the points; nothing outside training.

    A window is moved and turned as a whole, for a scene does not jump between frames; each point shakes on its own.
    Actions are left as they are: turn and move clouds only if the frame makes actions indifferent to it.

    Args:
        jitter: standard deviation of each coordinate of each point, in metres.
        translation: largest shift along each axis, in metres.
        rotation: largest turn about the frame's z axis, in radians.
    """

    def __init__(self, jitter: float = 0.0, translation: float = 0.0, rotation: float = 0.0) -> None:
        super().__init__()
        self.jitter = jitter
        self.translation = translation
        self.rotation = rotation

    def forward(self, points: Tensor) -> Tensor:
        """Change coordinates (B, T, N, 3), in metres."""
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
