"""Environments in worker processes that may crash or hang without taking the evaluation with them.

gymnasium's `AsyncVectorEnv` closes all environments when one worker dies; here the one worker is replaced and the
caller is told, so that an evaluation can count the episode and go on.
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
"""Seconds for a worker's first answer: importing and compiling a simulator takes minutes on a busy machine."""


@dataclass(frozen=True)
class Step:
    """What an environment answered to a reset or an action.

    Attributes:
        obs: observation, key -> array; None after a crash.
        reward: reward of the step.
        done: the episode is over, for whatever reason.
        info: the environment's extra information, among it `success`.
        frame: rendered picture (height, width, 3), uint8, if it was asked for.
        crash: last line of the traceback, or what became of the worker process; None if all went well.
        terminated: the task itself ended, so that nothing can be earned any more; a time limit is not that.
    """

    obs: Mapping[str, np.ndarray[Any, Any]] | None
    reward: float = 0.0
    done: bool = False
    info: Mapping[str, Any] = field(default_factory=dict)
    frame: np.ndarray[Any, Any] | None = None
    crash: str | None = None
    terminated: bool = False


def _serve(connection: Connection, factory: EnvFactory) -> None:
    # Ctrl-C reaches all processes of a terminal; what becomes of it is for the main one to say.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    env: gymnasium.Env[Any, Any] | None = None
    while True:
        try:
            command, argument, render = connection.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if env is None:
                env = factory()
            if command == "reset":
                obs, info = env.reset(seed=argument)
                step = Step(obs, info=info, frame=_frame(env, render))
            elif command == "describe":
                step = Step(None, info=getattr(env, "interface", {}))
            else:
                obs, reward, terminated, truncated, info = env.step(argument)
                step = Step(obs, float(reward), terminated or truncated, info, _frame(env, render), None, terminated)
        except Exception as error:  # whatever a simulator throws ends this episode, not the evaluation
            env = None
            step = Step(None, done=True, crash=traceback.format_exception_only(error)[-1].strip())
        connection.send(step)


def _frame(env: gymnasium.Env[Any, Any], render: bool) -> np.ndarray[Any, Any] | None:
    return np.asarray(env.render()) if render else None


class EnvPool:
    """Worker processes with one environment each.

    Args:
        factory: makes an environment inside a worker.
        n_envs: number of workers.
        timeout: seconds after which a worker that does not answer counts as hung and is replaced; a worker's first
            answer, for which it starts the simulator, may take 15 minutes.
    """

    def __init__(self, factory: EnvFactory, n_envs: int, timeout: float = 120.0) -> None:
        self._context = multiprocessing.get_context("spawn")  # fork is not safe beside threads and GPU contexts
        self._factory = factory
        self._timeout = timeout
        self._workers = [self._start() for _ in range(n_envs)]
        self._started: set[int] = set()

    def __len__(self) -> int:
        return len(self._workers)

    def reset(self, seeds: Mapping[int, int], render: frozenset[int] = frozenset()) -> dict[int, Step]:
        """Start an episode in each worker named in `seeds`, at once; `render` names those that return a frame."""
        return self._ask("reset", seeds, render)

    def step(
        self, actions: Mapping[int, np.ndarray[Any, Any]], render: frozenset[int] = frozenset()
    ) -> dict[int, Step]:
        """Act in each worker named in `actions`, at once; `render` names those that return a frame."""
        return self._ask("step", actions, render)

    def interface(self) -> Mapping[str, Any]:
        """What a running environment adds to its recipe's `interface`.

        Raises:
            ConfigurationError: the first environment cannot be started, so that no episode could be run.
        """
        if not self._workers:
            return {}
        answer = self._ask("describe", {0: None}, frozenset())[0]
        if answer.crash:
            raise ConfigurationError(f"the environment cannot be started: {answer.crash}")
        return answer.info

    def close(self) -> None:
        """End all workers."""
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

    def _ask(self, command: str, arguments: Mapping[int, Any], render: frozenset[int]) -> dict[int, Step]:
        for worker, argument in arguments.items():
            # Where the worker is gone, `_answer` finds the closed pipe and replaces it.
            with suppress(OSError):
                self._workers[worker][1].send((command, argument, worker in render))
        return {worker: self._answer(worker) for worker in arguments}

    def _answer(self, worker: int) -> Step:
        process, connection = self._workers[worker]
        timeout = self._timeout if worker in self._started else max(self._timeout, _START_TIMEOUT)
        try:
            if connection.poll(timeout):
                step: Step = connection.recv()
                self._started.add(worker)
                return step
            crash = f"no answer for {timeout:g} s"
        except (EOFError, OSError):
            process.join(timeout=1.0)
            crash = f"the worker process ended with exit code {process.exitcode}"
        process.kill()
        process.join()
        connection.close()
        self._started.discard(worker)
        self._workers[worker] = self._start()
        return Step(None, done=True, crash=crash)
