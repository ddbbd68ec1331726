"""The scripted experts in robosuite, as a `Player` for the recorder."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from difftori_pl.demos.episode import play
from difftori_pl.demos.experts import find_expert
from difftori_pl.demos.recorder import Played
from difftori_pl.envs.robosuite import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv


@dataclass(frozen=True)
class RobosuitePlayer:
    """A scripted expert in its robosuite task; see `Player`.

    Args:
        task: a key of `difftori_pl.demos.EXPERTS`.
        max_steps: number of environment steps after which an episode counts as failed.

    Raises:
        ConfigurationError: there is no expert for the task.
    """

    task: str
    max_steps: int = 400

    def __post_init__(self) -> None:
        find_expert(self.task)

    @property
    def recipe(self) -> dict[str, Any]:
        """See `Player`; the generation of robosuite is a part, because it determines the episode."""
        return {**asdict(self), **Robosuite(find_expert(self.task).task).interface}

    def play(self, seed: int) -> Played | None:
        """See `Player`."""
        env = _env(self.task)
        arrays = play(env, find_expert(self.task), seed, self.max_steps)
        return None if arrays is None else Played(arrays, env.env_args(), {"model_file": env.model_file()})


@cache
def _env(task: str) -> RobosuiteEnv:
    """Build the environment, once per process."""
    return Robosuite(find_expert(task).task, obs_keys=())()
