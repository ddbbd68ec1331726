"""Run episodes of a policy in several environments in parallel."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from difftori_pl.envs.pool import EnvPool, Step
from difftori_pl.models.encoders.base import check_observations
from difftori_pl.models.finite import FiniteCheck
from difftori_pl.models.policy import Policy, State


@dataclass
class Track:
    """Observations, actions and rewards of an episode of T steps.

    Attributes:
        obs: T + 1 observations.
        actions: T actions (A,).
        rewards: T rewards.
        terminated: whether the task ended, as opposed to a time limit.
    """

    obs: list[Mapping[str, np.ndarray[Any, Any]]] = field(default_factory=list)
    actions: list[np.ndarray[Any, Any]] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    terminated: bool = False

    def add(self, action: np.ndarray[Any, Any] | None, step: Step) -> None:
        """Add an environment's answer to an action, or to a reset if `action` is None."""
        if step.obs is None:
            return
        self.obs.append(step.obs)
        if action is not None:
            self.actions.append(action)
            self.rewards.append(step.reward)
            self.terminated = step.terminated


@dataclass
class Episode:
    """One finished episode.

    Attributes:
        seed: seed of the initial state.
        success: whether the task was solved at some step.
        length: number of actions.
        env_steps: number of environment steps if the environment reports it under `info["env_steps"]`, else 0.
        total_reward: undiscounted sum of rewards.
        max_reward: largest reward of a step, at least 0; in Push-T, the largest covered fraction of the goal.
        crash: error of the simulator, or the first observation, reward or action that was not finite; None if none.
        frames: images (height, width, 3), uint8, if requested.
        track: observations, actions and rewards, if requested.
    """

    seed: int
    success: bool = False
    length: int = 0
    env_steps: int = 0
    total_reward: float = 0.0
    max_reward: float = 0.0
    crash: str | None = None
    frames: list[np.ndarray[Any, Any]] = field(default_factory=list)
    track: "Track | None" = None

    def add(self, step: Step) -> None:
        """Update the episode with an environment's answer."""
        self.success = self.success or bool(step.info.get("success", False))
        self.env_steps += int(step.info.get("env_steps", 0))
        self.total_reward += step.reward
        self.max_reward = max(self.max_reward, step.reward)
        self.crash = step.crash
        if step.frame is not None:
            self.frames.append(step.frame)

    def to_json(self) -> str:
        """Return one line of JSON for the tables, without frames, track and environment steps."""
        left_out = ("frames", "track", "env_steps")
        return json.dumps({name: value for name, value in vars(self).items() if name not in left_out})


@torch.no_grad()
def run_episodes(
    policy: Policy,
    pool: EnvPool,
    seeds: Sequence[int],
    device: torch.device,
    n_videos: int = 0,
    on_finish: Callable[[Episode], None] = lambda episode: None,
    keep_tracks: bool = False,
    restore: Callable[[Tensor], Tensor] = lambda actions: actions,
) -> list[Episode]:
    """Run one episode from each initial state, with as many episodes in parallel as the pool has environments.

    The policy acts on all running episodes in one batch. When an episode ends, its worker starts the next seed. If an
    observation that the policy reads, a reward or an action is NaN or infinite, its episode ends as a crash before the
    value reaches the policy, the totals or the simulator.

    Args:
        policy: the policy, which acts on batches.
        pool: the environments.
        seeds: one seed per episode, which determines its initial state.
        device: device of the policy.
        n_videos: number of episodes, from the first, whose frames are kept.
        on_finish: called with each episode when it ends.
        keep_tracks: keep observations, actions and rewards.
        restore: maps actions (B, A) of the policy to the units of the environment, see `ActionUnits.restore`.

    Returns:
        The episodes, in the order of `seeds`.

    Raises:
        ConfigurationError: the observations of the environments do not fit the policy's encoders.
    """
    episodes = [Episode(seed, track=Track() if keep_tracks else None) for seed in seeds]
    recorded = {id(episode) for episode in episodes[:n_videos]}
    waiting = list(reversed(episodes))
    running: dict[int, tuple[Episode, dict[str, Any], State]] = {}
    check = FiniteCheck(policy)

    def rendered(pairs: Sequence[tuple[int, Episode]]) -> frozenset[int]:
        return frozenset(worker for worker, episode in pairs if id(episode) in recorded)

    def settle(worker: int, episode: Episode, action: np.ndarray[Any, Any] | None, step: Step, state: State) -> None:
        if problem := _not_finite(step, check):
            step = Step(None, done=True, crash=f"{problem} is not finite after step {episode.length}")
        episode.add(step)
        if episode.track is not None:
            episode.track.add(action, step)
        if step.done or step.obs is None:
            on_finish(episode)
        else:
            running[worker] = (episode, dict(step.obs), state)

    while waiting or running:
        idle = [worker for worker in range(len(pool)) if worker not in running][: len(waiting)]
        starting = [(worker, waiting.pop()) for worker in idle]
        first = pool.reset({worker: episode.seed for worker, episode in starting}, rendered(starting))
        for worker, episode in starting:
            _check_shapes(policy, first[worker])
            settle(worker, episode, None, first[worker], policy.initial_state(1))
        if not running:
            continue
        workers = sorted(running)
        obs = {
            key: torch.as_tensor(np.stack([running[worker][1][key] for worker in workers])).unsqueeze(1).to(device)
            for key in running[workers[0]][1]
        }
        actions, states = policy.act(obs, _stack([running[worker][2] for worker in workers]))
        acting = [(worker, running.pop(worker)[0]) for worker in workers]
        numbers = restore(actions.float()).cpu().numpy()
        finite = np.isfinite(numbers).all(axis=1)
        steps = pool.step({worker: numbers[row] for row, worker in enumerate(workers) if finite[row]}, rendered(acting))
        for row, (worker, episode) in enumerate(acting):
            episode.length += worker in steps
            no_action = Step(None, done=True, crash=f"the policy's action is not finite after step {episode.length}")
            state = {name: value[row : row + 1] for name, value in states.items()}
            settle(worker, episode, numbers[row], steps.get(worker, no_action), state)
    return episodes


def _check_shapes(policy: Policy, step: Step) -> None:
    if isinstance(policy, nn.Module) and step.obs is not None:
        shapes = {key: tuple(np.shape(value)) for key, value in step.obs.items()}
        check_observations(policy, shapes, "the environment delivers", "check that its task is that of the policy")


def _not_finite(step: Step, check: FiniteCheck) -> str | None:
    """Name the part of an environment's answer that is not finite; return None if all are finite."""
    if step.obs is None:
        return None
    if spoiled := check.spoiled({key: torch.as_tensor(value) for key, value in step.obs.items()}):
        return f"the observation {spoiled[0]!r}"
    return None if np.isfinite(step.reward) else "the reward"


def _stack(states: Sequence[State]) -> dict[str, Tensor]:
    return {name: torch.cat([state[name] for state in states]) for name in states[0]}
