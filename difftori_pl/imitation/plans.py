"""What was demonstrated from each step of a window on."""

from torch import Tensor

from datamodules.batch import Batch
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import Observation


def demonstrated_plans(batch: Batch, horizon: int) -> tuple[Observation, Tensor, Tensor]:
    """The steps of windows that `horizon` = H demonstrated actions follow: T = W - H + 1 of W.

    Returns:
        Observations (B, T, ...), the actions from each step on (B, T, H, A), and whether all of these are real (B, T).

    Raises:
        ConfigurationError: the windows are too short.
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
