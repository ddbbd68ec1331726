"""A small `DiffTORIRL` in double precision, and a batch for it."""

from typing import Any

import torch
from torch import nn

from difftori_pl import (
    TDMPC,
    DiffTORIRL,
    LevenbergMarquardt,
    LinearSchedule,
    ObservationCritic,
    Planner,
    StateEncoder,
    TrajOptLayer,
    Truncated,
)
from tests.replayed import replayed_batch

B, H, OBS, A = 6, 3, 4, 2


def make(policy_gradient: Any = None, **options: Any) -> DiffTORIRL:
    torch.manual_seed(0)

    def encoder() -> StateEncoder:
        return StateEncoder({"state": OBS}, 5, [8], normalize=False)

    layer = TrajOptLayer(LevenbergMarquardt(6, 1e-3, 0.1), Truncated(3))
    module = DiffTORIRL(
        **{
            "world_model": TDMPC(encoder(), A, 16),
            "planner": Planner(layer),
            "horizon_schedule": LinearSchedule(H, H, 0),
            "exploration": LinearSchedule(0.0, 0.0, 0),
            "critic": ObservationCritic(encoder(), A, 16) if policy_gradient else None,
            "policy_gradient": policy_gradient,
            "policy_std": 0.0,
            **options,
        }
    ).double()
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    # Heads that start at zero would make comparisons pass by accident.
    for parameter in module.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return module


def make_batch() -> dict[str, Any]:
    return replayed_batch(B, H, OBS, A)
