"""ManiSkill3 on the CPU: its observations match those of the recording, and a recorded episode can be repeated."""

import importlib.util
from collections.abc import Iterator

import numpy as np
import pytest

from datamodules import ManiSkill3DataModule
from difftori_pl.envs import ManiSkill3
from difftori_pl.envs.maniskill3_env import ManiSkill3Env
from difftori_pl.errors import ConfigurationError
from tests.maniskill3_data import FIXTURE, VECTORS

pytestmark = [
    pytest.mark.sim,
    pytest.mark.usefixtures("vulkan"),
    pytest.mark.skipif(importlib.util.find_spec("mani_skill") is None, reason="ManiSkill3 is not installed"),
    pytest.mark.filterwarnings("ignore"),  # ManiSkill3 and SAPIEN use deprecated names
]


@pytest.fixture(scope="module")
def env() -> Iterator[ManiSkill3Env]:
    made = ManiSkill3()()
    yield made
    made.close()


def test_a_recorded_episode_is_repeated(env: ManiSkill3Env) -> None:
    data = ManiSkill3DataModule(str(FIXTURE), 4, list(VECTORS), horizon=1, batch_size=999, validation_fraction=0.0)
    (batch,) = data.predict_dataloader()
    rows = (batch["demo"] == data.demos.index("traj_2")).nonzero()[:, 0]
    observed, _ = env.reset(seed=2)  # the recording's seed
    for row in rows:
        for key in set(VECTORS) - {"extra/is_grasped"}:
            # PhysX keeps contacts of the episodes before; is_grasped is a threshold of a contact force.
            np.testing.assert_allclose(observed[key], batch["obs"][key][row, 0], rtol=0, atol=2e-3)
        observed, reward, terminated, truncated, info = env.step(batch["actions"][row, 0].numpy())
        assert np.isfinite(reward)
        assert not truncated
    assert terminated
    assert info == {"success": True}


def test_an_episode_is_truncated() -> None:
    env = ManiSkill3(obs_keys=["state"], max_episode_steps=2, render_backend="none")()
    observed, _ = env.reset(seed=0)
    assert observed["state"].shape == (42,)
    assert not env.step(np.zeros(4, np.float32))[3]
    assert env.step(np.zeros(4, np.float32))[3]
    env.close()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "PickCub-v1"}, "has no task 'PickCub-v1'; it has .*PickCube-v1"),
        ({"control_mode": "pd_magic"}, "PickCube-v1 has no controller 'pd_magic'"),
        ({"obs_keys": ["agent/mood"]}, "has no observation 'agent/mood'; it has agent/qpos"),
    ],
)
def test_mistakes(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        ManiSkill3(**options)()
