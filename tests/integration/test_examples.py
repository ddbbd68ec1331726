import importlib.util
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "pendulum.py"
spec = importlib.util.spec_from_file_location("pendulum", EXAMPLE)
assert spec is not None
assert spec.loader is not None
pendulum = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pendulum)


def test_the_known_dynamics_equal_the_simulator() -> None:
    env = gymnasium.make("Pendulum-v1").unwrapped
    env.reset(seed=0)
    state = torch.as_tensor(np.array(env.state))[None]  # type: ignore[attr-defined]
    for action in np.random.default_rng(0).uniform(-1, 1, 50):
        state = pendulum.dynamics(state, torch.tensor([[action]]))
        env.step(np.array([2.0 * action]))
        np.testing.assert_allclose(state[0].numpy(), env.state, rtol=1e-9)  # type: ignore[attr-defined]


@pytest.mark.slow
def test_the_pendulum_swings_up() -> None:
    # The return of a pendulum that hangs down for 200 steps is about -2000.
    assert pendulum.swing_up(seed=0) > -400
