"""Collect experience: the module acts in the environment, and its episodes are added to the replay buffer."""

from __future__ import annotations

import logging
import signal
import threading
import time
from itertools import chain
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from lightning import LightningModule, Trainer
from torch import Tensor

from datamodules.distributed import gather
from difftori_pl.callbacks.env_steps import EnvStepLimit, log_at
from difftori_pl.callbacks.episodes import Episode, run_episodes
from difftori_pl.callbacks.progress import Progress
from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.pool import EnvPool
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.base import check_observations
from difftori_pl.models.policy import Observation, OnlinePolicy, Policy, State
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive

if TYPE_CHECKING:
    from datamodules.replay import ReplayDataModule


_log = logging.getLogger(__name__)

MAX_LOST = 100
"""Consecutive rounds without a usable episode that end training. An untrained policy may end many episodes early."""


class Collect(EnvStepLimit):
    """Alternate between running episodes and updating the module, with `updates_per_step` updates per agent step.

    The actions of the first `n_seed_env_steps` are random. Training ends after `n_env_steps`; with action repeat, an
    agent step is several environment steps. Ctrl-C ends training after the running episode or update, with a
    checkpoint if `checkpoint.save_on_exception` is set. A second Ctrl-C ends it at once.

    Several processes collect in rounds: each runs one episode in each of its environments, adds it to its own buffer,
    and waits for the others. All counts are sums over processes. `updates_per_step` and `n_env_steps` therefore mean
    the same as in one process with as many environments, and all processes run the same number of updates.

    An episode is dropped, with a warning, if the simulator crashed, if an observation, a reward or an action is not
    finite, or if it is shorter than a training sequence.

    Logs for each episode under `collect/`, over environment steps: `return`, `length_steps`, `env_steps_per_second`
    (of the episodes of the same round, including the time of the updates), and `left_out_episodes` (the number of
    dropped episodes so far).

    Args:
        env: recipe of the environment; None disables collection, for modules that learn from demonstrations.
        n_env_steps: total number of environment steps.
        n_seed_env_steps: number of these with random actions; TD-MPC uses 5000 agent steps.
        n_envs: number of environments that each training process runs in parallel, each in its own worker process.
        updates_per_step: number of updates per agent step.
        first_seed: training episode i starts from the initial state of seed `first_seed + i`.
        step_timeout: seconds after which an environment that does not answer counts as crashed.
    """

    def __init__(
        self,
        env: EnvFactory | None = None,
        n_env_steps: int = 1_000_000,
        n_seed_env_steps: int = 10_000,
        n_envs: int = 1,
        updates_per_step: float = 1.0,
        first_seed: int = 0,
        step_timeout: float = 120.0,
    ) -> None:
        check_positive(n_env_steps=n_env_steps, n_envs=n_envs, updates_per_step=updates_per_step)
        check_positive(step_timeout=step_timeout)
        check_not_negative(n_seed_env_steps=n_seed_env_steps, first_seed=first_seed)
        self.env = env
        self.n_env_steps = n_env_steps
        self.n_seed_env_steps = n_seed_env_steps
        self.n_envs = n_envs
        self.updates_per_step = updates_per_step
        self.first_seed = first_seed
        self.step_timeout = step_timeout
        self._pool: EnvPool | None = None
        self._interrupted = False
        self._n_episodes = 0
        self._collected = 0
        self._owed = 0.0
        self._began = 0.0
        self._n_lost = 0
        self._n_left_out = 0
        self._previous_handler: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the environments."""
        del trainer
        if self.env is not None:
            if not isinstance(pl_module, OnlinePolicy):
                raise ConfigurationError(
                    f"Collect runs a policy that explores, got a {type(pl_module).__name__}: derive it from "
                    "difftori_pl.models.policy.OnlinePolicy, or set the callback's env to null"
                )
            self._pool = EnvPool(self.env, self.n_envs, self.step_timeout)
            self._pool.interface()  # fail here if an environment cannot start, not in each episode
            self._began = time.monotonic()
            if threading.current_thread() is threading.main_thread():
                self._previous_handler = signal.signal(signal.SIGINT, self._on_interrupt)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Collect until an update is due."""
        del batch, batch_idx
        if self._pool is None:
            return
        while self._owed < 1.0 or self._collected < self.n_seed_env_steps:
            self._stop_if_interrupted(trainer)
            self._collect(trainer, pl_module)
        self._owed -= 1.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the count of environment steps, and end training after `n_env_steps`."""
        del outputs, batch, batch_idx
        if self._pool is None:
            return
        ahead = self._owed / self.updates_per_step * self._action_repeat
        assert isinstance(pl_module, OnlinePolicy)
        pl_module.set_env_step(self._collected - round(ahead))
        pl_module.log("env_step", float(pl_module.n_env_steps), prog_bar=True, logger=False, batch_size=1)
        if self._owed < 1.0 and self._collected >= self.n_env_steps:
            trainer.should_stop = True
        self._stop_if_interrupted(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Close the environments."""
        del trainer, pl_module, stage
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        if self._previous_handler is not None:
            signal.signal(signal.SIGINT, self._previous_handler)
            self._previous_handler = None

    def state_dict(self) -> dict[str, Any]:
        """Return the counters."""
        return {
            "n_episodes": self._n_episodes,
            "collected": self._collected,
            "owed": self._owed,
            "n_left_out": self._n_left_out,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the counters."""
        self._n_episodes = state_dict["n_episodes"]
        self._collected = state_dict["collected"]
        self._owed = state_dict["owed"]
        self._n_left_out = state_dict.get("n_left_out", 0)

    def _on_interrupt(self, number: int, frame: FrameType | None) -> None:
        """Request a stop between episodes and updates; on the second Ctrl-C, stop at once."""
        if self._interrupted:
            signal.default_int_handler(number, frame)
        self._interrupted = True
        _log.warning("stopping after the running episode or update; press Ctrl-C again to stop at once")

    def _stop_if_interrupted(self, trainer: Trainer) -> None:
        """Stop all processes at the same point if any of them was interrupted."""
        if trainer.strategy.reduce_boolean_decision(self._interrupted, all=False):
            raise KeyboardInterrupt

    @property
    def active(self) -> bool:
        """Whether episodes are collected."""
        return self.env is not None

    @property
    def n_collected(self) -> int:
        """Number of environment steps of the collected episodes, of all processes."""
        return self._collected

    @property
    def n_updates(self) -> float:
        """Number of updates until the end of the run."""
        return self._owed + (self.n_env_steps - self._collected) / self._action_repeat * self.updates_per_step

    @property
    def _action_repeat(self) -> int:
        return 1 if self.env is None else self.env.action_repeat

    def _collect(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Run one episode in each environment of each process."""
        assert self._pool is not None
        assert isinstance(pl_module, OnlinePolicy)
        replay: ReplayDataModule = trainer.datamodule  # type: ignore[attr-defined]
        seeding = self._collected < self.n_seed_env_steps
        policy: Policy = _Random(pl_module.action_dim) if seeding else _Explorer(pl_module)
        first = self.first_seed + self._n_episodes + trainer.global_rank * self.n_envs
        seeds = list(range(first, first + self.n_envs))
        self._n_episodes += trainer.world_size * self.n_envs
        with trainer.precision_plugin.forward_context():
            episodes = run_episodes(policy, self._pool, seeds, pl_module.device, keep_tracks=True)
            if not seeding:
                pl_module.on_episodes_end()
        faults = [_store(replay, episode, pl_module) for episode in episodes]
        kept = [
            (episode.length, episode.env_steps or episode.length * self._action_repeat, episode.total_reward)
            for episode, fault in zip(episodes, faults, strict=True)
            if fault is None
        ]
        everyone = list(chain(*gather(kept)))
        self._n_left_out += trainer.world_size * self.n_envs - len(everyone)
        self._n_lost = 0 if everyone else self._n_lost + 1
        if self._n_lost == MAX_LOST:
            raise ConfigurationError(
                f"expected a usable episode in {MAX_LOST} consecutive rounds, got none: fix the environment or the "
                f"settings; the last episode {faults[-1]}"
            )
        elapsed, self._began = time.monotonic() - self._began, time.monotonic()
        n_env_steps = sum(env_steps for _, env_steps, _ in everyone)
        for length, env_steps, total_reward in everyone:
            self._collected += env_steps
            self._owed += length * self.updates_per_step
            values = {
                "collect/return": total_reward,
                "collect/length_steps": float(length),
                "collect/env_steps_per_second": n_env_steps / elapsed,
                "collect/left_out_episodes": float(self._n_left_out),
            }
            log_at(trainer, pl_module, values, self._collected)
            shown = {"return": total_reward, "env_steps/s": n_env_steps / elapsed}
            pl_module.log_dict(shown, prog_bar=True, logger=False, batch_size=1)
            self.latest_return = total_reward
        if isinstance(trainer.progress_bar_callback, Progress):
            trainer.progress_bar_callback.update(trainer, pl_module)


def _store(replay: ReplayDataModule, episode: Episode, module: LightningModule) -> str | None:
    """Add an episode to the buffer and return None, or return the reason for dropping it.

    Raises:
        ConfigurationError: the observations do not fit the module's encoders.
    """
    track, fault = episode.track, None
    if episode.crash:
        fault = f"crashed: {episode.crash}"
    elif episode.length < replay.horizon:
        fault = (
            f"had {episode.length} steps, fewer than the {replay.horizon} of a training sequence: if this is frequent, "
            "lower data.init_args.horizon (and the model's horizon_schedule)"
        )
    if fault is not None:
        _log.warning("dropped the episode of seed %d, which %s", episode.seed, fault)
        return fault
    assert track is not None
    obs = {key: np.stack([step[key] for step in track.obs]) for key in track.obs[0]}
    check_observations(
        module,
        {key: value.shape[1:] for key, value in obs.items()},
        "the environment delivers",
        "check that the environment's task is that of the model and its critic",
    )
    replay.add(obs, np.stack(track.actions), np.array(track.rewards), track.terminated)
    return None


class _Explorer(Policy):
    """The exploration policy of a module."""

    def __init__(self, module: OnlinePolicy) -> None:
        self.module = module

    def initial_state(self, batch_size: int) -> State:
        return self.module.initial_state(batch_size)

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        return self.module.explore(obs, state)


class _Random(Policy):
    """A policy of uniformly random actions in [-1, 1]."""

    def __init__(self, action_dim: int) -> None:
        self.action_dim = action_dim

    def initial_state(self, batch_size: int) -> State:
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        some = next(iter(obs.values()))
        return 2.0 * torch.rand(len(some), self.action_dim, device=some.device) - 1.0, state
