import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difftori_pl.callbacks.episodes import run_episodes
from difftori_pl.envs.pool import Step
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.state import StateEncoder
from difftori_pl.models.policy import Observation, Policy, State


class FakePool:
    """A pool whose episodes last `seed` steps; odd seeds succeed, and seed 4 crashes."""

    def __init__(self, n_envs: int) -> None:
        self.n_envs = n_envs
        self.left: dict[int, int] = {}
        self.seeds: dict[int, int] = {}

    def __len__(self) -> int:
        return self.n_envs

    def reset(self, seeds: Mapping[int, int], render: frozenset[int]) -> dict[int, Step]:
        self.seeds |= seeds
        self.left |= seeds
        return {worker: self._step(worker, worker in render) for worker in seeds}

    def step(self, actions: Mapping[int, Any], render: frozenset[int]) -> dict[int, Step]:
        steps = {}
        for worker, action in actions.items():
            assert action[0] == self.seeds[worker] - self.left[worker], "the policy was given another episode's memory"
            self.left[worker] -= 1
            steps[worker] = self._step(worker, worker in render)
        return steps

    def _step(self, worker: int, render: bool) -> Step:
        seed, left = self.seeds[worker], self.left[worker]
        if seed == 4 and left == 2:
            return Step(None, done=True, crash="gone")
        frame = np.zeros((16, 16, 3), dtype=np.uint8) if render else None
        info = {"success": left == 0 and seed % 2 == 1}
        return Step({"left": np.array([left], dtype=np.float32)}, float(left), left == 0, info, frame)


class AgePolicy(Policy):
    """A policy whose action is the number of steps since the start of the episode."""

    def initial_state(self, batch_size: int) -> State:
        return {"age": torch.zeros(batch_size, 1)}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        assert obs["left"].shape == (len(state["age"]), 1, 1)
        return state["age"], {"age": state["age"] + 1}


def test_each_episode_has_its_own_memory_and_outcome() -> None:
    seeds = [3, 5, 4, 2, 1, 6, 7]
    finished = []
    episodes = run_episodes(AgePolicy(), FakePool(3), seeds, torch.device("cpu"), 1, finished.append)  # type: ignore[arg-type]
    assert [episode.seed for episode in episodes] == seeds
    assert {episode.seed for episode in finished} == set(seeds)
    assert [episode.success for episode in episodes] == [True, True, False, False, True, False, True]
    assert [episode.length for episode in episodes] == [3, 5, 2, 2, 1, 6, 7]
    assert [episode.crash for episode in episodes] == [None, None, "gone", None, None, None, None]
    assert [episode.max_reward for episode in episodes] == [3, 5, 4, 2, 1, 6, 7]
    assert [episode.total_reward for episode in episodes] == [6, 15, 7, 3, 1, 21, 28]
    assert [len(episode.frames) for episode in episodes] == [4, 0, 0, 0, 0, 0, 0]
    assert json.loads(episodes[2].to_json())["crash"] == "gone"


class ReadingPolicy(nn.Module):
    """A policy that reads two numbers named `left`; `FakePool` delivers one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StateEncoder({"left": 2})

    def initial_state(self, batch_size: int) -> State:
        return self.encoder.initial_state(batch_size)


def test_observations_that_do_not_fit_the_policy_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"encoder reads .*'left' .*\(2,\), but .* delivers left \(1,\)"):
        run_episodes(ReadingPolicy(), FakePool(2), [1, 2], torch.device("cpu"))  # type: ignore[arg-type]


class CorruptPool(FakePool):
    """A pool with a corrupt answer for one seed when `left` steps remain."""

    def __init__(self, n_envs: int, seed: int, left: int, **answer: Any) -> None:
        super().__init__(n_envs)
        self.corrupt = seed, left
        self.answer = answer

    def _step(self, worker: int, render: bool) -> Step:
        step = super()._step(worker, render)
        return replace(step, **self.answer) if (self.seeds[worker], self.left[worker]) == self.corrupt else step


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "key"), [("the observation 'left'", "obs"), ("the reward", "reward")])
def test_a_non_finite_answer_ends_only_its_episode(name: str, key: str, number: float) -> None:
    answer = {"obs": {"left": np.array([number], dtype=np.float32)}} if key == "obs" else {"reward": number}
    pool = CorruptPool(2, seed=3, left=1, **answer)
    corrupt, other = run_episodes(AgePolicy(), pool, [3, 5], torch.device("cpu"), keep_tracks=True)  # type: ignore[arg-type]
    assert corrupt.crash == f"{name} is not finite after step 2"
    assert (corrupt.length, corrupt.total_reward, corrupt.max_reward) == (2, 5, 3)
    assert corrupt.track is not None
    assert [obs["left"].item() for obs in corrupt.track.obs] == [3, 2]
    assert (other.crash, other.success, other.length, other.total_reward) == (None, True, 5, 15)


def test_a_non_finite_first_observation_never_reaches_the_policy() -> None:
    pool = CorruptPool(1, seed=3, left=3, obs={"left": np.array([np.nan], dtype=np.float32)})
    corrupt, other = run_episodes(AgePolicy(), pool, [3, 5], torch.device("cpu"))  # type: ignore[arg-type]
    assert (corrupt.crash, corrupt.length) == ("the observation 'left' is not finite after step 0", 0)
    assert other.success


def test_the_simulator_gets_restored_actions() -> None:
    given: list[float] = []

    class Recording(FakePool):
        def step(self, actions: Mapping[int, Any], render: frozenset[int]) -> dict[int, Step]:
            given.extend(float(action[0]) for action in actions.values())
            return super().step({worker: (action - 100) / 2 for worker, action in actions.items()}, render)

    (episode,) = run_episodes(
        AgePolicy(),
        Recording(1),  # type: ignore[arg-type]
        [3],
        torch.device("cpu"),
        keep_tracks=True,
        restore=lambda actions: 2 * actions + 100,
    )
    assert given == [100, 102, 104]
    assert episode.track is not None
    assert [action.item() for action in episode.track.actions] == given


class FailingPolicy(AgePolicy):
    """A policy that returns NaN when three steps remain."""

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        actions, state = super().act(obs, state)
        return torch.where(obs["left"][:, 0] == 3, torch.nan, actions), state


def test_a_non_finite_action_ends_its_episode_before_it_reaches_the_simulator() -> None:
    short, stopped = run_episodes(FailingPolicy(), FakePool(2), [2, 5], torch.device("cpu"))  # type: ignore[arg-type]
    assert (short.crash, short.length) == (None, 2)
    assert (stopped.crash, stopped.length) == ("the policy's action is not finite after step 2", 2)
    assert stopped.total_reward == 5 + 4 + 3
