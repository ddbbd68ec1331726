"""A pool of environments in this process, for light simulators."""

from collections.abc import Mapping
from typing import Any

from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.pool import EnvPool, Server, Step


class LocalPool(EnvPool):
    """Environments that take turns in this process.

    Starting worker processes takes seconds, and so does passing observations of many short steps between processes. A
    simulator of a few thousand steps per second is faster here. An error in an environment counts as a crash, as in
    `EnvPool`, but a simulator that hangs or ends its process takes this process with it.

    Args:
        factory: builds an environment.
        n_envs: number of environments.
        timeout: ignored.
    """

    def __init__(self, factory: EnvFactory, n_envs: int, timeout: float = 0.0) -> None:
        del timeout
        self._servers = [Server(factory) for _ in range(n_envs)]

    def __len__(self) -> int:
        return len(self._servers)

    def close(self) -> None:
        """Drop the environments."""
        self._servers = []

    def _request(self, command: str, arguments: Mapping[int, Any], render: frozenset[int]) -> dict[int, Step]:
        return {
            number: self._servers[number].answer(command, argument, number in render)
            for number, argument in arguments.items()
        }
