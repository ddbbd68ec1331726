"""One episode of a scripted expert, as arrays in robomimic's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.demos.expert import Expert

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from difftori_pl.envs.robosuite_env import RobosuiteEnv

STEPS_AFTER_SUCCESS = 5
"""Environment steps recorded after success, as in robomimic's human demonstrations."""


def play(env: RobosuiteEnv, expert: Expert, seed: int, max_steps: int) -> dict[str, NDArray[Any]] | None:
    """Play one episode of an expert.

    Args:
        env: environment of the expert's task, without images.
        expert: the scripted expert.
        seed: fixes the initial state and the expert's random variation.
        max_steps: number of environment steps after which the episode counts as failed.

    Returns:
        The episode as robomimic's arrays, by their paths in the group of the demo: `actions` (T, A) in [-1, 1],
        `states` (T, S) before each action, `rewards` (T,) and `dones` (T,) of the state after each action, `obs/*` and
        `next_obs/*`. None if the expert fails.
    """
    env.reset(seed=seed)
    obs = env.low_dim()
    expert.reset(obs, seed)
    seen, states = [obs], []
    actions: list[NDArray[np.float32]] = []
    dones: list[bool] = []
    while sum(dones) < STEPS_AFTER_SUCCESS:
        if len(actions) >= max_steps:
            return None
        action = expert.act(obs)
        states.append(env.state())
        actions.append(action)
        env.step(action)
        obs = env.low_dim()
        seen.append(obs)
        dones.append(env.is_success())
    series = {key: np.stack([obs[key] for obs in seen]) for key in obs}
    return {
        "actions": np.stack(actions).astype(np.float64),
        "states": np.stack(states),
        "rewards": np.array(dones, dtype=np.float64),
        "dones": np.array(dones, dtype=np.int64),
        **{f"obs/{key}": values[:-1] for key, values in series.items() if key.startswith(("robot", "object"))},
        **{f"next_obs/{key}": values[1:] for key, values in series.items() if key.startswith(("robot", "object"))},
    }
