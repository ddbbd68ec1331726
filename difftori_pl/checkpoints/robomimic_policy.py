"""Load a base policy from a checkpoint of robomimic."""

import json
from typing import Any

import torch
from torch import Tensor

from datamodules.actions.robosuite_version import KEY, recorded_generation
from datamodules.actions.units import UNCHANGED
from difftori_pl.checkpoints.building import build, load_weights
from difftori_pl.checkpoints.reading import read_checkpoint
from difftori_pl.errors import CheckpointError
from difftori_pl.models.base_policies.bc_rnn_gmm import BCRNNGMM


def from_robomimic(checkpoint: str) -> BCRNNGMM:
    """Load a low-dimensional BC-RNN-GMM policy of robomimic 0.2 or later; robomimic need not be installed.

    Args:
        checkpoint: a `.pth` file that robomimic wrote.

    Raises:
        CheckpointError: the file does not exist, or holds another algorithm or a policy with image observations.
    """
    content = read_checkpoint(checkpoint, "robomimic writes them to `<output_dir>/<experiment>/<time>/models/`")
    try:
        algorithm = json.loads(content["config"])["algo"]
        shapes = content["shape_metadata"]
        weights = content["model"]["policy"] if "policy" in content["model"] else content["model"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} is not a robomimic checkpoint: it has no {error}: name a .pth file of robomimic"
        ) from error
    _require_bc_rnn_gmm(checkpoint, content, algorithm)
    if content.get("obs_normalization_stats") is not None:
        raise CheckpointError(
            f"expected a policy without observation normalisation, got one with it in {checkpoint}: train with "
            "robomimic's hdf5_normalize_obs false"
        )
    config = {
        "class_path": "difftori_pl.BCRNNGMM",
        "init_args": {
            "encoder": {
                "class_path": "difftori_pl.StateEncoder",
                "init_args": {
                    # robomimic concatenates the keys in alphabetical order
                    "obs_dims": {key: shape[0] for key, shape in sorted(shapes["all_shapes"].items())},
                    "latent_dim": None,
                    "normalize": False,
                },
            },
            "action_dim": shapes["ac_dim"],
            "hidden_dim": algorithm["rnn"]["hidden_dim"],
            "n_layers": algorithm["rnn"]["num_layers"],
            "n_modes": algorithm["gmm"]["num_modes"],
            "min_std": algorithm["gmm"]["min_std"],
            "restart_after": algorithm["rnn"]["horizon"],
        },
    }
    policy = build(config, BCRNNGMM, checkpoint)
    load_weights(policy, _rename(weights), checkpoint)
    policy.config = config
    # The `env_args` of the training data.
    recorded = recorded_generation(content.get("env_metadata") or {})
    policy.interface = {**UNCHANGED, **({} if recorded is None else {KEY: recorded})}
    return policy


def _require_bc_rnn_gmm(checkpoint: str, content: dict[str, Any], algorithm: dict[str, Any]) -> None:
    rnn, gmm = algorithm.get("rnn", {}), algorithm.get("gmm", {})
    images = content["shape_metadata"].get("use_images", False)
    fits = rnn.get("enabled") and gmm.get("enabled") and rnn.get("rnn_type") == "LSTM" and not rnn.get("open_loop")
    fits = fits and gmm.get("std_activation") == "softplus" and not algorithm.get("actor_layer_dims")
    if content.get("algo_name") != "bc" or not fits or images:
        raise CheckpointError(
            f"expected robomimic's BC with LSTM and GMM on low-dimensional observations in {checkpoint}, got "
            f"{content.get('algo_name')!r} with rnn={rnn.get('enabled')}, gmm={gmm.get('enabled')}, images={images}: "
            "name a checkpoint of such a policy"
        )


def _rename(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert robomimic's parameter names to ours; robomimic stores the decoder twice."""
    renamed = {}
    for name, value in weights.items():
        name = name.removeprefix("policy.").removeprefix("nets.")
        if name.startswith("rnn.nets."):
            renamed[f"encoder.rnn.{name.removeprefix('rnn.nets.')}"] = torch.as_tensor(value)
        elif name.startswith("decoder.nets."):
            renamed[name.removeprefix("decoder.nets.")] = torch.as_tensor(value)
    return renamed
