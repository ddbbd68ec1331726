"""A base policy out of a checkpoint of this package."""

from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.errors import CheckpointError
from difftori_pl.models.base_policies.base import BasePolicy

PREFIX = "policy."
"""Where `BehaviorCloning` keeps the parameters of the policy."""

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
    content = read_checkpoint(checkpoint, _REMEDY)
    config = content.get("hyper_parameters", {}).get("policy")
    weights = {
        name.removeprefix(PREFIX): value
        for name, value in content.get("state_dict", {}).items()
        if name.startswith(PREFIX)
    }
    if not config or not weights:
        raise CheckpointError(
            f"{checkpoint} does not hold a base policy; give a checkpoint of BehaviorCloning, trained from a YAML file"
        )
    policy = build(config, checkpoint)
    load_weights(policy, weights, checkpoint)
    policy.config = config
    policy.interface = content.get("interface")
    return policy


def build(config: dict[str, Any], origin: str) -> BasePolicy:
    """Build a policy with fresh parameters from its class path and arguments; `origin` is named in errors."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--policy", type=BasePolicy)
    try:
        policy: BasePolicy = parser.instantiate(parser.parse_object({"policy": config})).policy
    except ArgumentError as error:
        raise CheckpointError(f"{origin} describes a policy that cannot be built here: {error}") from error
    return policy


def load_weights(policy: BasePolicy, weights: dict[str, torch.Tensor], origin: str) -> None:
    """Put `weights` into `policy`; all of them must fit."""
    try:
        policy.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(f"the weights in {origin} do not fit the policy it describes: {error}") from error
