"""Noise that raises the error of a base policy's training proposals to its error on held-out demonstrations."""

import math
from collections.abc import Callable, Iterable
from itertools import islice

import torch
from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.errors import ConfigurationError
from difftori_pl.imitation.plans import demonstrated_plans
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.policy import State

N_BATCHES = 16
"""Largest number of batches of each kind used for the measurement."""


@torch.no_grad()
def measured_noise(
    base: BasePolicy, train: Iterable[Batch], held_out: Iterable[Batch], horizon: int, unit: Tensor
) -> float:
    """Return σ = √max(0, e(held_out) - e(train)), with e the mean squared error of the proposals per component.

    The proposals of a base policy are more accurate on its training demonstrations than when acting. With more noise
    than σ, a refinement learns to rely on the proposals less than it should; without noise, it may find no error to
    correct. A base policy that is not learned, such as `Zeros`, has equal errors on both and gets no noise.

    Args:
        base: the base policy; the error is that of `propose_posterior`, on `train` after `training_state`, so that
            cross-fitted proposals get hardly any noise.
        train: batches that it was trained on.
        held_out: batches that it was not trained on.
        horizon: number H of actions that it proposes from each step.
        unit: unit of the error in each component (A,), such as its standard deviation.

    Raises:
        ConfigurationError: `held_out` is empty.
    """

    def trained(batch: Batch) -> State:
        return base.training_state(batch["demo"])

    def acting(batch: Batch) -> State:
        return base.initial_state(len(batch["actions"]))

    errors = [
        _mean_square_error(base, islice(batches, N_BATCHES), horizon, unit, state)
        for batches, state in ((train, trained), (held_out, acting))
    ]
    if math.isnan(errors[1]):
        raise ConfigurationError(
            "expected held-out demonstrations to measure the noise of the proposals, got none: set "
            "data.init_args.validation_fraction above 0, or model.init_args.proposal_noise to a number (0.5 on Square)"
        )
    return math.sqrt(max(0.0, errors[1] - errors[0]))


def _mean_square_error(
    base: BasePolicy, batches: Iterable[Batch], horizon: int, unit: Tensor, state: Callable[[Batch], State]
) -> float:
    total, count = 0.0, 0
    for batch in batches:
        obs, demonstrated, mask = demonstrated_plans(batch, horizon)
        proposals, _ = base.propose_posterior(obs, demonstrated, state(batch))
        total += float(((proposals - demonstrated) / unit).square().mean((-2, -1))[mask].sum())
        count += int(mask.sum())
    return total / count if count else math.nan
