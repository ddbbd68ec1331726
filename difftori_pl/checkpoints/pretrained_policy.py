"""A base policy out of a checkpoint of this package."""

from difftori_pl.checkpoints.building import load_part
from difftori_pl.models.base_policies.base import BasePolicy

_REMEDY = (
    "train the base policy first, with the configuration of the task whose name begins with bc_, bc_rnn_ or diffusion_ "
    "(`lightning fit --config bc_pickcube.yaml`), or do without: --model.base_policy base_policy/zeros.yaml"
)


def from_checkpoint(checkpoint: str) -> BasePolicy:
    """Load the policy that `BehaviorCloning` trained.

    The result remembers what it is made of in its attribute `config`, so that a checkpoint of a module that uses it
    stands on its own.

    Args:
        checkpoint: a `.ckpt` file written by training a base policy.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    policy, content = load_part(checkpoint, "policy", BasePolicy, "base policy", _REMEDY)  # type: ignore[type-abstract]
    policy.config = content["hyper_parameters"]["policy"]
    policy.interface = content.get("interface")
    return policy
