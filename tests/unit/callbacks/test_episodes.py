import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difftori_pl.callbacks.episodes import run_episodes
from difftori_pl.envs.pool import Step
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.encoders.state import StateEncoder
from difftori_pl.models.policy import Observation, State


class FakePool:
    """Episodes that last `seed` steps; those of an odd seed succeed, that of seed 4 crashes."""

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


class AgePolicy:
    """Acts with the number of steps it remembers."""

    def initial_state(self, batch_size: int) -> State:
        return {"age": torch.zeros(batch_size, 1)}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        assert obs["left"].shape == (len(state["age"]), 1, 1)
        return state["age"], {"age": state["age"] + 1}


def test_each_episode_keeps_its_memory_and_its_outcome() -> None:
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
    """Reads two numbers named `left`, where `FakePool` delivers one."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StateEncoder({"left": 2})

    def initial_state(self, batch_size: int) -> State:
        return self.encoder.initial_state(batch_size)


def test_an_environment_that_the_policy_cannot_read_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"encoder reads .*'left' .*\(2,\), but .* delivers left \(1,\)"):
        run_episodes(ReadingPolicy(), FakePool(2), [1, 2], torch.device("cpu"))  # type: ignore[arg-type]


class SpoiltPool(FakePool):
    """The episode of seed 4 meets a number that is not finite after two steps, in place of a crash."""

    def __init__(self, n_envs: int, key: str) -> None:
        super().__init__(n_envs)
        self.key = key

    def _step(self, worker: int, render: bool) -> Step:
        if (self.seeds[worker], self.left[worker]) != (4, 2):
            return super()._step(worker, render)
        left = np.array([np.nan if self.key == "left" else 2.0], dtype=np.float32)
        return Step({"left": left}, np.inf if self.key == "reward" else 2.0)


class FailingPolicy(AgePolicy):
    """Finds no action after two steps of the episode that has two more to go."""

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        actions, state = super().act(obs, state)
        return torch.where((actions == 2) & (obs["left"][:, 0] == 2), torch.nan, actions), state


@pytest.mark.parametrize(
    ("policy", "key", "fault"),
    [
        (AgePolicy(), "left", "the observation 'left' is not finite after 2 steps"),
        (AgePolicy(), "reward", "the reward is not finite after 2 steps"),
        (FailingPolicy(), "", "the policy's action is not finite after 3 steps"),
    ],
)
def test_a_number_that_is_not_finite_ends_its_episode_alone(policy: AgePolicy, key: str, fault: str) -> None:
    seeds = [3, 4, 5]
    found = run_episodes(policy, SpoiltPool(3, key), seeds, torch.device("cpu"), keep_tracks=True)  # type: ignore[arg-type]
    assert [episode.crash for episode in found] == [None, fault, None]
    assert [episode.length for episode in found] == [3, 3 if key == "" else 2, 5]
    assert all(np.isfinite(episode.total_reward) for episode in found)
    for episode in found:
        assert episode.track is not None
        assert all(np.isfinite(obs["left"]).all() for obs in episode.track.obs)
        assert np.isfinite(episode.track.rewards).all()
