"""Loss of the critic Q̃, which is trained on the replayed sequences of the world model."""

from typing import Any

import torch
from torch import Tensor

from difftori_pl.losses import MAX_LOSS, at_least_float32, horizon_weights, td_target, value_error
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.latent_model import LossSettings


def critic_loss(
    critic: ObservationCritic,
    target: ObservationCritic,
    next_actions: Tensor,
    batch: dict[str, Any],
    settings: LossSettings,
) -> tuple[Tensor, Tensor]:
    """Compute the critic's loss, which is weighted and clipped like the value term of Eq. 3.

    Args:
        critic: Q̃.
        target: moving average of the critic.
        next_actions: actions (B, H, A) of the policy at the observed next states.
        batch: as from `ReplayDataModule`.
        settings: constants of the loss.

    Returns:
        The loss, a scalar, and its mean before weighting, to log.
    """
    obs, rewards = batch["obs"], batch["rewards"]
    now, later = ({key: value[:, part] for key, value in obs.items()} for part in (slice(0, -1), slice(1, None)))
    with torch.no_grad():
        next_values = at_least_float32(target(later, next_actions).amin(0))
        value_target = td_target(rewards, next_values, batch["terminated"], settings.discount)
    weights = horizon_weights(rewards.shape[1], settings.decay, rewards)
    errors = (weights * value_error(critic(now, batch["actions"]), value_target)).sum(1).clamp(max=MAX_LOSS)
    loss = (settings.value_weight * errors * batch["weights"]).mean() / rewards.shape[1]
    return loss, errors.detach().mean()
