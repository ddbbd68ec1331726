"""A deployed policy reads what its encoders declare, and takes no other array for an image."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datamodules import ObservationSpec
from difftori_pl.deployment.deploy import RobotPolicy
from difftori_pl.deployment.export import _Step
from difftori_pl.errors import ConfigurationError, ShapeError
from difftori_pl.models.encoders import Encoder
from difftori_pl.models.encoders.base import check_observations
from difftori_pl.models.policy import Observation, Policy, State

SPECS = {
    "forces": ObservationSpec.vector(3, 4, 4),
    "cloud": ObservationSpec.point_cloud(5, 3),
    "camera": ObservationSpec.image(3, 4, 4),
}


class Mean(Encoder):
    """The mean of each key."""

    latent_dim = len(SPECS)

    def __init__(self) -> None:
        super().__init__()
        self.obs_specs = dict(SPECS)

    def forward(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return torch.stack([obs[key].float().flatten(2).mean(-1) for key in self.obs_specs], dim=-1), state


class Averaging(nn.Module, Policy):
    """Acts by the means of the newest observation."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Mean()

    def initial_state(self, batch_size: int) -> State:
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return self.encoder(obs, state)[0][:, -1], state


def observation() -> dict[str, np.ndarray]:
    return {
        "forces": np.full((3, 4, 4), 0.25),
        "cloud": np.full((5, 3), 0.75),
        "camera": np.full((3, 4, 4), 200, np.uint8),
    }


def test_numbers_in_the_shape_of_an_image_keep_their_values() -> None:
    policy = RobotPolicy(Averaging())
    assert policy.obs_specs == SPECS
    np.testing.assert_allclose(policy.act(observation()), [0.25, 0.75, 200.0])
    with pytest.raises(ShapeError, match="expected image 'camera' as uint8"):
        policy.act(observation() | {"camera": np.full((3, 4, 4), 0.25)})
    with pytest.raises(ShapeError, match="check the key"):
        policy.act(observation() | {"forces": np.zeros((4, 4, 3))})
    with pytest.raises(ShapeError, match="put the channels first"):
        policy.act(observation() | {"camera": np.zeros((4, 4, 3), np.uint8)})


def test_a_program_is_traced_with_observations_of_the_declared_types() -> None:
    example = dict(zip(SPECS, _Step(Averaging()).example(), strict=True))
    for key, spec in SPECS.items():
        assert example[key].shape == (1, 1, *spec.shape)
        assert str(example[key].dtype) == f"torch.{spec.dtype}"


def test_data_of_another_kind_are_refused_and_an_environment_states_shapes() -> None:
    module = nn.ModuleDict({"encoder": Mean()})
    check_observations(module, SPECS, "the data deliver", "look")
    check_observations(module, {key: spec.shape for key, spec in SPECS.items()}, "the environment delivers", "look")
    matrices = SPECS | {"camera": ObservationSpec.vector(3, 4, 4)}
    with pytest.raises(
        ConfigurationError, match=r"'camera' .* \(3, 4, 4\) \(image, uint8\), but .* \(vector, float32\)"
    ):
        check_observations(module, matrices, "the data deliver", "look")
