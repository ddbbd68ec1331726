"""Every simulator's environment satisfies the contract of `EnvFactory`."""

import pickle
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest

from difftori_pl.envs import EnvFactory
from difftori_pl.errors import ShapeError
from tests import cases

RECIPES = {part.__name__: recipe for part, recipe in cases.ENVS.items()}


@pytest.fixture(params=RECIPES)
def recipe(request: pytest.FixtureRequest) -> EnvFactory:
    return RECIPES[request.param][1]()


@pytest.fixture(
    params=[
        pytest.param(name, marks=pytest.mark.robosuite) if package == "robosuite" else name
        for name, (package, _) in RECIPES.items()
    ],
    scope="module",
)
def env(request: pytest.FixtureRequest) -> Iterator[gymnasium.Env[Any, Any]]:
    package, build = RECIPES[request.param]
    pytest.importorskip(package)
    made = build()()
    yield made
    made.close()


def test_a_recipe_can_be_pickled(recipe: EnvFactory) -> None:
    copy = pickle.loads(pickle.dumps(recipe))
    assert vars(copy) == vars(recipe)
    assert copy.interface == recipe.interface


@pytest.mark.sim
def test_observations_and_actions_match_the_declared_spaces(env: gymnasium.Env[Any, Any]) -> None:
    low, high = env.action_space.low, env.action_space.high  # type: ignore[attr-defined]
    assert (low == -1).all()
    assert (high == 1).all()
    observation, _ = env.reset(seed=3)
    for action in (np.zeros(low.shape, np.float32), low, high):
        assert env.observation_space.contains(observation)
        assert {value.dtype for value in observation.values()} <= {np.dtype(np.float32), np.dtype(np.uint8)}
        observation, reward, terminated, truncated, info = env.step(action)
        assert np.isfinite(reward)
        assert isinstance(terminated, bool)
        assert isinstance(truncated, bool)
        assert isinstance(info.get("success", False), bool | np.bool_)  # DeepMind Control reports no success


@pytest.mark.sim
def test_a_seed_fixes_the_episode(env: gymnasium.Env[Any, Any]) -> None:
    actions = np.random.default_rng(0).uniform(-1, 1, (3, *env.action_space.shape))  # type: ignore[misc]

    def episode(seed: int) -> list[dict[str, Any]]:
        return [env.reset(seed=seed)[0], *(env.step(action)[0] for action in actions)]

    first, other, again = episode(3), episode(4), episode(3)
    assert any((first[0][key] != other[0][key]).any() for key in first[0])
    for one, same in zip(first, again, strict=True):
        for key in one:
            np.testing.assert_array_equal(one[key], same[key])


@pytest.mark.sim
def test_invalid_actions_are_rejected(env: gymnasium.Env[Any, Any]) -> None:
    env.reset(seed=3)
    shape: tuple[int, ...] = env.action_space.shape  # type: ignore[assignment]
    with pytest.raises(ShapeError):
        env.step(np.zeros((shape[0] + 1,)))
    for value in (np.nan, np.inf):
        with pytest.raises(ValueError, match="finite"):
            env.step(np.full(shape, value))
