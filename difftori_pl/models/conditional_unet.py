"""One-dimensional conditional U-Net of Diffusion Policy (arXiv:2303.04137)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError


class ConditionalUNet(nn.Module):
    """Predict the noise in a sequence of actions, given the diffusion step and a condition.

    Args:
        action_dim: size A of an action.
        condition_dim: size C of the condition.
        dims: channels of each level, where each level halves the time resolution; 256, 512 and 1024 in Diffusion
            Policy.
        kernel_size: kernel size of the convolutions, in steps.
        n_groups: number of groups of the group normalisation; it must divide each of `dims`.
        step_dim: size of the embedding of the diffusion step.

    Raises:
        ConfigurationError: `n_groups` does not divide each of `dims`.
    """

    def __init__(
        self,
        action_dim: int,
        condition_dim: int,
        dims: Sequence[int] = (256, 512, 1024),
        kernel_size: int = 5,
        n_groups: int = 8,
        step_dim: int = 128,
    ) -> None:
        super().__init__()
        if any(dim % n_groups for dim in dims):
            raise ConfigurationError(
                f"n_groups must divide each of dims, got n_groups {n_groups} and dims {tuple(dims)}"
            )
        self.shrinks_by = 2 ** (len(dims) - 1)
        self.step_embedding = nn.Sequential(
            _Sinusoids(step_dim), nn.Linear(step_dim, 4 * step_dim), nn.Mish(), nn.Linear(4 * step_dim, step_dim)
        )

        def two_blocks(in_dim: int, out_dim: int) -> nn.ModuleList:
            sizes = (step_dim + condition_dim, kernel_size, n_groups)
            return nn.ModuleList([_Block(in_dim, out_dim, *sizes), _Block(out_dim, out_dim, *sizes)])

        self.down = nn.ModuleList([two_blocks(before, after) for before, after in pairwise((action_dim, *dims))])
        self.shrink = nn.ModuleList([nn.Conv1d(dim, dim, 3, stride=2, padding=1) for dim in dims[:-1]])
        self.middle = two_blocks(dims[-1], dims[-1])
        upward = list(pairwise(reversed(dims)))
        self.up = nn.ModuleList([two_blocks(2 * before, after) for before, after in upward])
        self.grow = nn.ModuleList([nn.ConvTranspose1d(after, after, 4, stride=2, padding=1) for _, after in upward])
        self.last = nn.Sequential(
            *_convolution(dims[0], dims[0], kernel_size, n_groups), nn.Conv1d(dims[0], action_dim, 1)
        )

    def forward(self, actions: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        """Predict the noise (B, T, A) in `actions` (B, T, A) at diffusion steps (B,), for conditions (B, C).

        T must be a multiple of `shrinks_by`, which is 2 ** (len(dims) - 1).
        """
        condition = torch.cat([self.step_embedding(timesteps), condition], dim=-1)
        x = actions.transpose(1, 2)
        skipped = []
        for level, blocks in enumerate(self.down):
            x = _run(blocks, x, condition)
            skipped.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = _run(self.middle, x, condition)
        for blocks, grow in zip(self.up, self.grow, strict=True):
            x = grow(_run(blocks, torch.cat([x, skipped.pop()], dim=1), condition))
        noise: Tensor = self.last(x).transpose(1, 2)
        return noise


class _Block(nn.Module):
    """Residual block of two convolutions; the condition scales and shifts each channel between them."""

    def __init__(self, in_dim: int, out_dim: int, condition_dim: int, kernel_size: int, n_groups: int) -> None:
        super().__init__()
        self.first = nn.Sequential(*_convolution(in_dim, out_dim, kernel_size, n_groups))
        self.second = nn.Sequential(*_convolution(out_dim, out_dim, kernel_size, n_groups))
        self.modulation = nn.Sequential(nn.Mish(), nn.Linear(condition_dim, 2 * out_dim))
        self.shortcut = nn.Conv1d(in_dim, out_dim, 1) if in_dim != out_dim else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.modulation(condition).unsqueeze(-1).chunk(2, dim=1)
        out: Tensor = self.second(scale * self.first(x) + shift) + self.shortcut(x)
        return out


class _Sinusoids(nn.Module):
    """Sinusoidal embedding (B, dim) of diffusion steps (B,), as in "Attention is all you need" (arXiv:1706.03762)."""

    rates: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        rates = torch.exp(torch.arange(dim // 2) * (-math.log(10_000.0) / (dim // 2 - 1)))
        self.register_buffer("rates", rates, persistent=False)

    def forward(self, timesteps: Tensor) -> Tensor:
        angles = timesteps.unsqueeze(-1) * self.rates
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


def _convolution(in_dim: int, out_dim: int, kernel_size: int, n_groups: int) -> list[nn.Module]:
    return [
        nn.Conv1d(in_dim, out_dim, kernel_size, padding=kernel_size // 2),
        nn.GroupNorm(n_groups, out_dim),
        nn.Mish(),
    ]


def _run(blocks: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    for block in blocks.children():
        x = block(x, condition)
    return x
