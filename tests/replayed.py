"""Batches with the keys of `ReplayDataModule`."""

from typing import Any

import torch
from torch import Tensor


def replayed_batch(batch: int, horizon: int, obs_dim: int, action_dim: int) -> dict[str, Any]:
    """Return random float64 sequences of `horizon` steps, the same at every call."""
    generator = torch.Generator().manual_seed(1)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    return {
        "obs": {"state": uniform(batch, horizon + 1, obs_dim)},
        "actions": 2 * uniform(batch, horizon, action_dim) - 1,
        "rewards": uniform(batch, horizon),
        "terminated": uniform(batch, horizon) > 0.7,
        "weights": uniform(batch),
        "index": torch.arange(batch),
    }
