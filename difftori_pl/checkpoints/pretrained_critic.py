"""Load a frozen critic Q̃ from a checkpoint of this package."""

from difftori_pl.checkpoints.building import load_part
from difftori_pl.models.critics import ObservationCritic

_REMEDY = (
    "train one first, with a critic (`lightning fit --config rl_walker_stand_state.yaml --config "
    "rl/replayed_states.yaml`), and set the path of its runs/<name>/version_<n>/checkpoints/last.ckpt"
)


def critic_from_checkpoint(checkpoint: str) -> ObservationCritic:
    """Load and freeze the critic Q̃ of an earlier run of `DiffTORIRL`.

    A jointly trained critic lags behind the planner early in training; a pretrained critic can improve the plans from
    the start. The task and the observations must be those of the earlier run.

    Args:
        checkpoint: a `.ckpt` file of a run with a critic.

    Raises:
        CheckpointError: the file does not exist, or holds no critic.
    """
    critic, content = load_part(checkpoint, "critic", ObservationCritic, "critic", _REMEDY)
    described = content["hyper_parameters"]["critic"]
    critic.config = {"class_path": "difftori_pl.frozen_critic", "init_args": {"critic": described}}
    return frozen_critic(critic)


def frozen_critic(critic: ObservationCritic) -> ObservationCritic:
    """Freeze a critic's parameters and return it.

    Args:
        critic: the critic, changed in place.
    """
    return critic.requires_grad_(False)
