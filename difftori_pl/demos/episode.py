"""One episode of a scripted expert, as arrays in robomimic's layout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from difftori_pl.demos.expert import Expert

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from difftori_pl.envs.robosuite_env import RobosuiteEnv

STEPS_AFTER_SUCCESS = 5
"""How long an episode goes on when the task is done, environment steps; robomimic's human demonstrations do so too."""


def play(env: RobosuiteEnv, expert: Expert, seed: int, max_steps: int) -> dict[str, NDArray[Any]] | None:
    """Let the expert act from the initial state that belongs to a seed.

    Args:
        env: the expert's task, without images.
        expert: acts.
        seed: fixes the initial state and the expert's variation.
        max_steps: how long the expert may take, environment steps.

    Returns:
        robomimic's arrays of the episode by their paths in the demo's group: `actions` (T, A) in [-1, 1], `states`
        (T, S) before each action, `rewards` (T,) and `dones` (T,) of the state after it, `obs/*` and `next_obs/*`.
        None if the expert fails.
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
