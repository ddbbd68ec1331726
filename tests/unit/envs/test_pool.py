import os
import time
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from difftori_pl.envs.base import EnvFactory
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.envs.pool import EnvPool
from difftori_pl.errors import ConfigurationError


class Counter(gymnasium.Env[Any, Any]):
    """An environment that counts steps; action 7 raises, 8 exits the process, and 9 hangs."""

    interface = {"cameras": ["left", "right"]}  # noqa: RUF012

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.seed, self.count = seed, 0
        return {"count": np.array([0.0], dtype=np.float32), "seed": np.array([seed], dtype=np.float32)}, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if action[0] == 7:
            raise ValueError("the arm fell off")
        if action[0] == 8:
            os._exit(3)
        if action[0] == 9:
            time.sleep(60)
        self.count += 1
        obs = {
            "count": np.array([self.count], dtype=np.float32),
            "seed": np.array([self.seed], dtype=np.float32),
        }
        return obs, 1.0, self.count >= 3, False, {"success": bool(action[0] == 1)}

    def render(self) -> Any:
        return np.full((16, 16, 3), self.count, dtype=np.uint8)


class CounterFactory(EnvFactory):
    def __call__(self, seed: int = 0) -> Counter:
        return Counter()


@pytest.fixture
def pool() -> Iterator[EnvPool]:
    pool = EnvPool(CounterFactory(), n_envs=2, timeout=20.0)
    yield pool
    pool.close()


def test_environments_run_independently(pool: EnvPool) -> None:
    first = pool.reset({0: 10, 1: 20}, render=frozenset({1}))
    assert [step.obs["seed"][0] for step in first.values()] == [10, 20]
    assert first[0].frame is None
    assert first[1].frame is not None
    second = pool.step({0: np.array([1.0]), 1: np.array([0.0])})
    assert second[0].info["success"]
    assert not second[1].info["success"]
    pool.step({0: np.array([0.0])})
    assert pool.step({0: np.array([0.0])})[0].done


def test_the_interface_of_a_running_environment_is_returned(pool: EnvPool) -> None:
    assert pool.interface() == {"cameras": ["left", "right"]}
    assert pool.reset({0: 3})[0].obs["seed"][0] == 3


class Bounded(Counter):
    """An environment that returns the action as its reward."""

    action_space = gymnasium.spaces.Box(np.float32([-1, -np.inf]), np.float32([1, np.inf]))

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, _, *rest = super().step(np.zeros(1))
        return obs | {"action": np.array(action)}, 0.0, *rest  # type: ignore[return-value]


class BoundedFactory(EnvFactory):
    def __call__(self, seed: int = 0) -> Counter:
        return Bounded()


def test_actions_are_clipped_to_the_range_of_the_environment() -> None:
    pool = LocalPool(BoundedFactory(), n_envs=1)
    pool.reset({0: 1})
    for action, clipped in (([1.2, 7.0], [1.0, 7.0]), ([-0.5, -7.0], [-0.5, -7.0]), ([np.nan, 0.0], [np.nan, 0.0])):
        found = pool.step({0: np.array(action, np.float32)})[0].obs
        assert found is not None
        np.testing.assert_array_equal(found["action"], np.float32(clipped))


class NoTask(EnvFactory):
    def __call__(self, seed: int = 0) -> Counter:
        raise KeyError("no such robot")


def test_an_environment_that_cannot_be_started_is_a_configuration_error() -> None:
    pool = EnvPool(NoTask(), n_envs=1)
    try:
        with pytest.raises(ConfigurationError, match="cannot be started: KeyError: 'no such robot'"):
            pool.interface()
    finally:
        pool.close()


@pytest.mark.parametrize(("action", "message"), [(7.0, "ValueError: the arm fell off"), (8.0, "exit code 3")])
def test_a_crash_is_reported_and_the_other_workers_continue(pool: EnvPool, action: float, message: str) -> None:
    pool.reset({0: 1, 1: 2})
    steps = pool.step({0: np.array([action]), 1: np.array([0.0])})
    assert steps[0].done
    assert message in str(steps[0].crash)
    assert steps[1].crash is None
    assert pool.reset({0: 5})[0].obs["seed"][0] == 5


def test_a_hung_environment_is_replaced() -> None:
    pool = EnvPool(CounterFactory(), n_envs=1, timeout=0.5)
    try:
        assert pool.reset({0: 1})[0].crash is None, "the timeout of a step does not apply to starting a simulator"
        assert "no reply within 0.5 s" in str(pool.step({0: np.array([9.0])})[0].crash)
        assert pool.reset({0: 5})[0].crash is None
    finally:
        pool.close()


def test_environments_in_this_process_answer_as_those_in_workers(pool: EnvPool) -> None:
    local = LocalPool(CounterFactory(), n_envs=2)
    assert (len(local), local.interface()) == (len(pool), pool.interface())
    for one, other in (
        (local.reset({0: 10, 1: 20}, frozenset({1})), pool.reset({0: 10, 1: 20}, frozenset({1}))),
        (local.step({1: np.array([1.0])}), pool.step({1: np.array([1.0])})),
        (local.step({0: np.array([7.0])}), pool.step({0: np.array([7.0])})),
        (local.reset({0: 5}), pool.reset({0: 5})),
    ):
        assert repr(one) == repr(other)
