"""Rotations as axis-angle vectors, matrices, and the continuous 6D representation of Zhou et al. (arXiv:1812.07035).

An axis-angle vector has the direction of the axis and the angle in radians as its length. It jumps at the angle pi,
near which a gripper that points down stays, so a network cannot fit it. The 6D representation, the first two columns of
the matrix, is continuous, and any two independent vectors give a rotation by Gram-Schmidt.

No operation depends on values through Python, so that the functions can be traced and exported.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

_TINY = 1e-30
"""Length below which a vector counts as zero; it only prevents the division 0 / 0, also in float32."""


def axis_angle_to_6d(vectors: Tensor) -> Tensor:
    """Convert axis-angle vectors (..., 3), in radians, to the first two columns of their matrices (..., 6)."""
    return axis_angle_to_matrix(vectors)[..., :2].transpose(-1, -2).flatten(-2)


def axis_angle_from_6d(columns: Tensor) -> Tensor:
    """Convert two columns (..., 6), which need not be orthonormal, to axis-angle vectors (..., 3), at most pi long.

    If the columns are zero or parallel, which define no rotation, the result is some finite vector.
    """
    first = functional.normalize(columns[..., :3], dim=-1, eps=_TINY)
    second = columns[..., 3:]
    second = second - (first * second).sum(dim=-1, keepdim=True) * first
    second = functional.normalize(second, dim=-1, eps=_TINY)
    return matrix_to_axis_angle(torch.stack([first, second, torch.linalg.cross(first, second)], dim=-1))


def axis_angle_to_matrix(vectors: Tensor) -> Tensor:
    """Convert axis-angle vectors (..., 3), in radians, to rotation matrices (..., 3, 3) by Rodrigues' formula."""
    angle = vectors.norm(dim=-1)[..., None, None]
    x, y, z = vectors.unbind(dim=-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).view(*x.shape, 3, 3)
    # sin(t) / t and (1 - cos(t)) / t^2 without division; torch.sinc(t) is sin(pi t) / (pi t).
    sine, cosine = torch.sinc(angle / torch.pi), 0.5 * torch.sinc(angle / (2 * torch.pi)).square()
    identity = torch.eye(3, dtype=vectors.dtype, device=vectors.device)
    return identity + sine * cross + cosine * (cross @ cross)


def matrix_to_axis_angle(matrices: Tensor) -> Tensor:
    """Convert rotation matrices (..., 3, 3) to axis-angle vectors (..., 3), at most pi long.

    The conversion is accurate for all angles, including those near 0 and pi, because it uses the largest component of
    the quaternion.
    """
    m = matrices
    diagonal = m.diagonal(dim1=-2, dim2=-1)
    xx, yy, zz = diagonal.unbind(dim=-1)
    w = torch.stack(
        [1 + xx + yy + zz, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]], -1
    )
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    x = torch.stack([w[..., 1], 1 + xx - yy - zz, xy, xz], -1)
    y = torch.stack([w[..., 2], xy, 1 - xx + yy - zz, yz], -1)
    z = torch.stack([w[..., 3], xz, yz, 1 - xx - yy + zz], -1)
    # Each row is the quaternion times four times one of its components; choose the row of the largest component.
    candidates = torch.stack([w, x, y, z], dim=-2)
    chosen = candidates.diagonal(dim1=-2, dim2=-1).argmax(dim=-1)[..., None, None].expand(*m.shape[:-2], 1, 4)
    quaternion = functional.normalize(candidates.gather(-2, chosen).squeeze(-2), dim=-1, eps=_TINY)
    real, imaginary = quaternion[..., :1], quaternion[..., 1:]
    imaginary = torch.where(real < 0, -imaginary, imaginary)  # the angle is then at most pi
    length = imaginary.norm(dim=-1, keepdim=True)
    return imaginary * (2 * torch.atan2(length, real.abs()) / length.clamp_min(_TINY))
