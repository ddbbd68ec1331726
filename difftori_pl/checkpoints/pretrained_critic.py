"""Q̃ out of a checkpoint of this package, which learns no more."""

from difftori_pl.checkpoints.building import load_part
from difftori_pl.models.critics import ObservationCritic

_REMEDY = (
    "train one first, with a critic (`lightning fit --config rl_walker_stand_state.yaml --config "
    "rl/replayed_states.yaml`), and give its runs/<name>/version_<n>/checkpoints/last.ckpt"
)


def critic_from_checkpoint(checkpoint: str) -> ObservationCritic:
    """Load the Q̃ of an earlier run of `DiffTORIRL`, which learns no more.

    A Q̃ that learns beside the model knows less than the plans for long; one that has seen more can make them better
    early. It judges by what the earlier run observed, so that the task and its observations must be the same.

    Args:
        checkpoint: a `.ckpt` file of a run with a critic.

    Raises:
        CheckpointError: there is no such file, or it holds no critic.
    """
    critic, content = load_part(checkpoint, "critic", ObservationCritic, "critic", _REMEDY)
    described = content["hyper_parameters"]["critic"]
    critic.config = {"class_path": "difftori_pl.frozen_critic", "init_args": {"critic": described}}
    return frozen_critic(critic)


def frozen_critic(critic: ObservationCritic) -> ObservationCritic:
    """Let a critic judge as it does and learn no more.

    Args:
        critic: of any kind.
    """
    return critic.requires_grad_(False)
