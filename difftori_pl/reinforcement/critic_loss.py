"""Loss of the critic Q̃, which is trained on the replayed sequences of the world model."""

from dataclasses import replace
from typing import Any

import torch

from difftori_pl.losses import MAX_LOSS, at_least_float32, horizon_weights, td_target, value_error
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.latent_model import LossSettings, ModelLoss


def add_critic_loss(
    loss: ModelLoss,
    critic: ObservationCritic,
    target: ObservationCritic,
    batch: dict[str, Any],
    settings: LossSettings,
) -> ModelLoss:
    """Add the critic's loss to that of the world model; it is weighted and clipped like the value term of Eq. 3.

    Args:
        loss: the loss of the world model on the same batch.
        critic: Q̃.
        target: moving average of the critic.
        batch: as from `ReplayDataModule`.
        settings: constants of the loss.
    """
    obs, rewards = batch["obs"], batch["rewards"]
    now, later = ({key: value[:, part] for key, value in obs.items()} for part in (slice(0, -1), slice(1, None)))
    with torch.no_grad():
        next_values = at_least_float32(target(later, loss.next_actions).amin(0))
        value_target = td_target(rewards, next_values, batch["terminated"], settings.discount)
    weights = horizon_weights(rewards.shape[1], settings.decay, rewards)
    errors = (weights * value_error(critic(now, batch["actions"]), value_target)).sum(1).clamp(max=MAX_LOSS)
    own = (settings.value_weight * errors * batch["weights"]).mean() / rewards.shape[1]
    return replace(loss, value=loss.value + own, logged=loss.logged | {"critic_loss": errors.detach().mean()})
