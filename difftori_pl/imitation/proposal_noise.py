"""How much noise makes a base policy's proposals in training as far off as those that it will make later."""

import math
from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.plans import demonstrated_plans
from difftori_pl.models.base_policies import BasePolicy

N_BATCHES = 16
"""How many batches of each kind are looked at."""


@torch.no_grad()
def measured_noise(
    base: BasePolicy, seen: Iterable[Batch], unseen: Iterable[Batch], horizon: int, unit: Tensor
) -> float:
    """σ = √max(0, e(unseen) - e(seen)), with e the mean squared error of a component of the proposals, in its `unit`.

    A base policy proposes better on the demonstrations it was trained on than it will in use. More noise than that
    teaches a refinement to put less trust in the proposals than they deserve; without noise there may be nothing to
    learn. A start that was not learned, such as zeros, is as far off on both, and gets none.

    Args:
        base: its proposals, those that explain the demonstrations.
        seen: batches that it was trained on.
        unseen: batches that it was not.
        horizon: number H of actions that it proposes from each step.
        unit: what 1 means in each component (A,).

    Raises:
        ConfigurationError: there is no unseen batch.
    """
    errors = [_mean_square_error(base, islice(batches, N_BATCHES), horizon, unit) for batches in (seen, unseen)]
    if math.isnan(errors[1]):
        raise ConfigurationError(
            "the noise of the proposals is measured on held-out demonstrations, and none are held out: set "
            "data.init_args.validation_fraction above 0, or model.init_args.proposal_noise to a number (0.5 on Square)"
        )
    return math.sqrt(max(0.0, errors[1] - errors[0]))


def _mean_square_error(base: BasePolicy, batches: Iterable[Batch], horizon: int, unit: Tensor) -> float:
    total, count = 0.0, 0
    for batch in batches:
        obs, demonstrated, mask = demonstrated_plans(batch, horizon)
        proposals, _ = base.propose_posterior(obs, demonstrated, base.initial_state(len(demonstrated)))
        total += float(((proposals - demonstrated) / unit).square().mean((-2, -1))[mask].sum())
        count += int(mask.sum())
    return total / count if count else math.nan
