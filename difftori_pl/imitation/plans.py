"""The demonstrated actions that follow each step of a window."""

from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import Observation


def demonstrated_plans(batch: Batch, horizon: int) -> tuple[Observation, Tensor, Tensor]:
    """Split windows of W steps into the T = W - H + 1 steps that are followed by H = `horizon` demonstrated actions.

    Returns:
        Observations (B, T, ...), the H actions from each step on (B, T, H, A), and a mask (B, T) that is true where all
        H actions are real.

    Raises:
        ConfigurationError: the windows are shorter than the horizon.
    """
    n_steps = batch["actions"].shape[1] - horizon + 1
    if n_steps < 1:
        raise ConfigurationError(
            f"windows of {batch['actions'].shape[1]} steps are too short to plan {horizon} actions: "
            "set data.init_args.horizon to at least model.init_args.horizon"
        )
    obs = {key: value[:, :n_steps] for key, value in batch["obs"].items()}
    actions = batch["actions"].unfold(1, horizon, 1).transpose(-1, -2)
    return obs, actions, batch["mask"].unfold(1, horizon, 1).all(-1)
