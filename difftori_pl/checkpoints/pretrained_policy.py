"""Load a base policy from a checkpoint of this package."""

from typing import Any

from datamodules.actions.units import UNCHANGED
from difftori_pl.checkpoints.building import load_part
from difftori_pl.checkpoints.training_command import training_command
from difftori_pl.models.base_policies.base import BasePolicy


def from_checkpoint(checkpoint: str) -> BasePolicy:
    """Load a policy that `BehaviorCloning` trained.

    The attribute `config` of the result describes how to build it. A checkpoint of a module that uses it therefore
    needs no other file.

    Args:
        checkpoint: a `.ckpt` file of the training of a base policy, or the folder of the run, `runs/<name>`: its newest
            `best.ckpt`, or `last.ckpt` if training selected none.

    Raises:
        CheckpointError: the file does not exist, or holds no base policy.
    """
    policy, _ = policy_and_content(checkpoint)
    return policy


def policy_and_content(checkpoint: str) -> tuple[BasePolicy, dict[str, Any]]:
    """Load a policy as `from_checkpoint` does, and return the content of its checkpoint too."""
    policy, content = load_part(checkpoint, "policy", BasePolicy, "base policy", _remedy(checkpoint))  # type: ignore[type-abstract]
    policy.config = content["hyper_parameters"]["policy"]
    policy.interface = {**UNCHANGED, **(content.get("interface") or {})}
    return policy, content


def _remedy(checkpoint: str) -> str:
    command = training_command(checkpoint)
    if command:
        training = f"train the base policy first, `{command}`"
    else:
        training = (
            "train a base policy first, with a configuration of the task that begins with bc_, bc_rnn_ or diffusion_"
        )
    return f"{training}, or do without: --model.base_policy base_policy/zeros.yaml"
