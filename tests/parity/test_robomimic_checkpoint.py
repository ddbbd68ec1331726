"""A policy that robomimic trained acts here as it does there."""

import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from difftori_pl.checkpoints.robomimic_policy import from_robomimic
from difftori_pl.errors import CheckpointError
from difftori_pl.models.base_policies import BCRNNGMM

SHAPES = OrderedDict(object=[14], robot0_eef_pos=[3], robot0_gripper_qpos=[2])


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    """robomimic's own network."""
    pytest.importorskip("robomimic", reason="the extra `robomimic` is not installed")
    import robomimic.utils.obs_utils as ObsUtils
    from robomimic.config import config_factory
    from robomimic.models.policy_nets import RNNGMMActorNetwork

    config = config_factory("bc")
    with config.values_unlocked():
        config.observation.modalities.obs.low_dim = list(SHAPES)
    ObsUtils.initialize_obs_utils_with_config(config)
    torch.manual_seed(0)
    return RNNGMMActorNetwork(
        obs_shapes=SHAPES,
        ac_dim=7,
        mlp_layer_dims=[],
        rnn_hidden_dim=24,
        rnn_num_layers=2,
        num_modes=5,
        min_std=1e-4,
        std_activation="softplus",
        low_noise_eval=True,
        rnn_kwargs={"bidirectional": False},
        encoder_kwargs=ObsUtils.obs_encoder_kwargs_from_config(config.observation.encoder),
    )


def checkpoint_of(network: torch.nn.Module, **changes: Any) -> dict[str, Any]:
    algorithm = {
        "rnn": {
            "enabled": True,
            "rnn_type": "LSTM",
            "horizon": 10,
            "hidden_dim": 24,
            "num_layers": 2,
            "open_loop": False,
        },
        "gmm": {"enabled": True, "num_modes": 5, "min_std": 1e-4, "std_activation": "softplus"},
        "actor_layer_dims": [],
    }
    return {
        "model": {f"policy.{name}": value for name, value in network.state_dict().items()},
        "config": json.dumps({"algo": algorithm}),
        "algo_name": "bc",
        "shape_metadata": {"ac_dim": 7, "all_shapes": SHAPES, "use_images": False},
    } | changes


def test_the_mixture_is_robomimics(network: torch.nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "model.pth"
    torch.save(checkpoint_of(network), path)
    ours = from_robomimic(str(path))
    assert isinstance(ours, BCRNNGMM)
    obs = {key: torch.randn(4, 10, *shape) for key, shape in SHAPES.items()}
    theirs = network.train().forward_train(obs)
    mixture, _ = ours(obs, ours.initial_state(4))
    actions = torch.rand(4, 10, 7) * 2 - 1
    assert_close(mixture.log_prob(actions), theirs.log_prob(actions), rtol=1e-4, atol=1e-4)
    assert_close(mixture.component_distribution.mean, theirs.component_distribution.mean)


@pytest.mark.parametrize(("version", "expected"), [("1.4.1", "1.4"), ("1.5.1", "1.5")])
def test_the_interface_holds_the_robosuite_of_the_training_data(
    network: torch.nn.Module, tmp_path: Path, version: str, expected: str
) -> None:
    path = tmp_path / "model.pth"
    env_metadata = {"env_name": "Lift", "env_version": version, "type": 1, "env_kwargs": {"robots": ["Panda"]}}
    torch.save(checkpoint_of(network, env_metadata=env_metadata), path)
    interface = from_robomimic(str(path)).interface
    assert interface is not None
    assert interface["robosuite"] == expected


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"algo_name": "bcq"}, "'bcq'"),
        ({"config": "{}"}, "is not a robomimic checkpoint"),
        ({"obs_normalization_stats": {"object": {}}}, "without observation normalisation"),
        ({"model": {}}, "do not fit"),
    ],
)
def test_other_checkpoints_are_refused(
    network: torch.nn.Module, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    path = tmp_path / "model.pth"
    torch.save(checkpoint_of(network, **changes), path)
    with pytest.raises(CheckpointError, match=said):
        from_robomimic(str(path))
