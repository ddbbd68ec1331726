"""A pool of environments in worker processes that tolerates crashes and hangs.

gymnasium's `AsyncVectorEnv` closes all environments when one worker dies. This pool replaces only that worker and
reports the crash, so that the evaluation can count the episode and continue.
"""

import multiprocessing
import signal
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import EnvFactory
from difftori_pl.errors import ConfigurationError

_START_TIMEOUT = 900.0
"""Timeout for a worker's first reply, in seconds: starting a simulator takes minutes on a busy machine."""


@dataclass(frozen=True)
class Step:
    """Result of a reset or a step.

    Attributes:
        obs: observation, key -> array; None after a crash.
        reward: reward of the step.
        done: the episode is over: terminated, truncated or crashed.
        info: the environment's `info`, with `success`.
        frame: rendered image (H, W, 3), uint8, if requested.
        crash: last line of the traceback, or how the worker process failed; None if there was no crash.
        terminated: the task ended and yields no further reward; False at a time limit.
    """

    obs: Mapping[str, np.ndarray[Any, Any]] | None
    reward: float = 0.0
    done: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    frame: np.ndarray[Any, Any] | None = None
    crash: str | None = None
    terminated: bool = False


class Server:
    """One environment that answers requests; it is built at the first request, and again after it raised an error.

    Args:
        factory: builds the environment.
    """

    def __init__(self, factory: EnvFactory) -> None:
        self._factory = factory
        self._env: gymnasium.Env[Any, Any] | None = None

    def answer(self, command: str, argument: Any, render: bool) -> Step:
        """Reset the environment to a seed, step it with an action, or describe it; an error ends the episode."""
        try:
            if self._env is None:
                self._env = self._factory()
            if command == "reset":
                obs, info = self._env.reset(seed=argument)
                return Step(obs, info=info, frame=self._frame(render))
            if command == "describe":
                return Step(None, info=getattr(self._env, "interface", {}))
            obs, reward, terminated, truncated, info = self._env.step(_clipped(argument, self._env))
            return Step(obs, float(reward), terminated or truncated, info, self._frame(render), None, terminated)
        except Exception as error:  # an error in a simulator ends the episode, not the evaluation
            self._env = None
            return Step(None, done=True, crash=traceback.format_exception_only(error)[-1].strip())

    def _frame(self, render: bool) -> np.ndarray[Any, Any] | None:
        return np.asarray(self._env.render()) if self._env is not None and render else None


def _clipped(action: np.ndarray[Any, Any], env: gymnasium.Env[Any, Any]) -> np.ndarray[Any, Any]:
    """Clip an action to the environment's range, which a policy with scaled actions may exceed by its margin."""
    space = getattr(env, "action_space", None)
    if isinstance(space, gymnasium.spaces.Box) and space.shape == np.shape(action):
        return np.clip(action, space.low, space.high)
    return action


def _serve(connection: Connection, factory: EnvFactory) -> None:
    # Ctrl-C is sent to all processes of a terminal; the main process handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    server = Server(factory)
    while True:
        try:
            command, argument, render = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        connection.send(server.answer(command, argument, render))


class EnvPool:
    """Worker processes with one environment each.

    Args:
        factory: builds the environment inside a worker.
        n_envs: number of workers.
        timeout: seconds after which a worker that does not reply is replaced. A worker's first reply, which includes
            starting the simulator, may take 15 minutes.
    """

    def __init__(self, factory: EnvFactory, n_envs: int, timeout: float = 120.0) -> None:
        self._context = multiprocessing.get_context("spawn")  # fork is unsafe with threads and GPU contexts
        self._factory = factory
        self._timeout = timeout
        self._workers = [self._start() for _ in range(n_envs)]
        self._started: set[int] = set()

    def __len__(self) -> int:
        return len(self._workers)

    def reset(self, seeds: Mapping[int, int], render: frozenset[int] = frozenset()) -> dict[int, Step]:
        """Start an episode in each worker in `seeds`, in parallel; workers in `render` return a frame."""
        return self._request("reset", seeds, render)

    def step(
        self, actions: Mapping[int, np.ndarray[Any, Any]], render: frozenset[int] = frozenset()
    ) -> dict[int, Step]:
        """Step each worker in `actions`, in parallel; workers in `render` return a frame."""
        return self._request("step", actions, render)

    def interface(self) -> Mapping[str, Any]:
        """Return the entries that a running environment adds to its recipe's `interface`.

        Raises:
            ConfigurationError: the first environment cannot be started.
        """
        if not len(self):
            return {}
        reply = self._request("describe", {0: None}, frozenset())[0]
        if reply.crash:
            raise ConfigurationError(f"the environment cannot be started: {reply.crash}")
        return reply.info

    def close(self) -> None:
        """Stop all workers."""
        for process, connection in self._workers:
            connection.close()
            process.kill()
            process.join()
        self._workers = []

    def _start(self) -> tuple[Any, Connection]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._factory), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    def _request(self, command: str, arguments: Mapping[int, Any], render: frozenset[int]) -> dict[int, Step]:
        for worker, argument in arguments.items():
            # If the worker has died, `_receive` detects the closed pipe and replaces the worker.
            with suppress(OSError):
                self._workers[worker][1].send((command, argument, worker in render))
        return {worker: self._receive(worker) for worker in arguments}

    def _receive(self, worker: int) -> Step:
        process, connection = self._workers[worker]
        timeout = self._timeout if worker in self._started else max(self._timeout, _START_TIMEOUT)
        try:
            if connection.poll(timeout):
                step: Step = connection.recv()
                self._started.add(worker)
                return step
            crash = f"no reply within {timeout:g} s"
        except (EOFError, OSError):
            process.join(timeout=1.0)
            crash = f"the worker process ended with exit code {process.exitcode}"
        process.kill()
        process.join()
        connection.close()
        self._started.discard(worker)
        self._workers[worker] = self._start()
        return Step(None, done=True, crash=crash)
