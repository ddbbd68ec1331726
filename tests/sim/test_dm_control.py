"""`DMControl` agrees with the DeepMind Control suite."""

import numpy as np
import pytest
import yaml

from difftori_pl.cli import SHIPPED_CONFIGS
from difftori_pl.envs import DMControl
from difftori_pl.errors import ConfigurationError, MissingPackageError, ShapeError

pytest.importorskip("dm_control")
pytestmark = pytest.mark.sim

PAPER_TASKS = [
    "cartpole-swingup-sparse", "cheetah-run", "cup-catch", "finger-spin", "finger-turn-easy", "finger-turn-hard",
    "hopper-stand", "pendulum-swingup", "quadruped-run", "quadruped-walk", "reacher-easy", "reacher-hard",
    "walker-run", "walker-stand", "walker-walk",
]  # fmt: skip


def test_rewards_and_observations_equal_those_of_the_suite() -> None:
    from dm_control import suite

    env = DMControl("cheetah-run", action_repeat=4)()
    reference = suite.load("cheetah", "run", task_kwargs={"random": 5})
    obs, _ = env.reset(seed=5)
    expected = reference.reset()
    rng = np.random.default_rng(0)
    for _ in range(10):
        np.testing.assert_array_equal(obs["state"], np.concatenate(list(expected.observation.values())).astype("f4"))
        action = rng.uniform(-1, 1, 6).astype(np.float32)
        obs, reward, terminated, truncated, _ = env.step(action)
        rewards = []
        for _ in range(4):
            expected = reference.step(action)
            rewards.append(expected.reward)
        assert reward == pytest.approx(sum(rewards), abs=1e-12)
        assert not terminated
        assert not truncated
    assert obs["state"].dtype == np.float32
    assert env.observation_space.contains(obs)


def test_actions_are_normalised() -> None:
    """Actions in [-1, 1] span the full range of the suite's controls."""
    env = DMControl("cup-catch")()
    spec = env.dm_env.action_spec()
    env.reset(seed=0)
    for end, limit in ((-1.0, spec.minimum), (1.0, spec.maximum)):
        env.step(np.full(2, end, dtype=np.float32))
        np.testing.assert_allclose(env.dm_env.physics.control(), limit)
        env.step(np.full(2, 5 * end, dtype=np.float32))
        np.testing.assert_allclose(env.dm_env.physics.control(), limit)


@pytest.mark.parametrize("action_repeat", [4, 8])
def test_an_episode_is_truncated_after_1000_environment_steps(action_repeat: int) -> None:
    env = DMControl("cartpole-swingup", action_repeat)()
    env.reset(seed=0)
    for step in range(1, 1000 // action_repeat + 1):
        _, _, terminated, truncated, _ = env.step(np.zeros(1, dtype=np.float32))
        assert not terminated
        assert truncated == (step == 1000 // action_repeat)


def test_the_last_action_of_an_episode_may_be_held_for_fewer_steps() -> None:
    env = DMControl("cartpole-swingup", action_repeat=3)()
    env.reset(seed=0)
    counts = [env.step(np.zeros(1))[4]["env_steps"] for _ in range(334)]
    env.close()
    assert counts == [3] * 333 + [1]


def test_a_seed_fixes_the_episode() -> None:
    first, second = DMControl("reacher-hard")(seed=1), DMControl("reacher-hard")(seed=2)
    second.reset(seed=9)
    second.step(np.ones(2, dtype=np.float32))
    a, b = (env.reset(seed=3)[0]["state"] for env in (first, second))
    np.testing.assert_array_equal(a, b)
    for _ in range(5):
        a, b = (env.step(np.full(2, 0.3, dtype=np.float32))[0]["state"] for env in (first, second))
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first.reset(seed=4)[0]["state"], a)


@pytest.mark.parametrize("task", [*PAPER_TASKS, "cartpole-swingup"])
def test_the_configurations_declare_the_sizes_of_the_task(task: str) -> None:
    config = yaml.safe_load((SHIPPED_CONFIGS / f"rl_{task.replace('-', '_')}_state.yaml").read_text())
    assert config["collect"]["env"]["init_args"]["task"] == task
    env = DMControl(task)()
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    model = config["model"]["init_args"]["world_model"]["init_args"]
    assert model["encoder"]["init_args"]["obs_dims"]["state"] == len(obs["state"])
    assert model["action_dim"] == env.action_space.shape[0]


def test_frames_are_stacked_with_the_newest_last() -> None:
    env = DMControl("quadruped-walk", action_repeat=4, pixels=True, camera=2)()
    obs, _ = env.reset(seed=0)
    assert obs["pixels"].shape == (9, 84, 84)
    assert env.observation_space.contains(obs)
    np.testing.assert_array_equal(obs["pixels"][:3], obs["pixels"][6:])
    first = obs["pixels"][6:]
    for _ in range(2):
        obs, *_ = env.step(np.ones(12, dtype=np.float32))
    np.testing.assert_array_equal(obs["pixels"][:3], first)
    assert np.abs(obs["pixels"][6:].astype(int) - first).mean() > 0.1
    assert obs["pixels"].std() > 10
    env.close()


def test_fast_rendering_shows_the_same_scene() -> None:
    images = []
    for fast in (False, True):
        env = DMControl("cheetah-run", pixels=True, fast_rendering=fast)()
        images.append(env.reset(seed=0)[0]["pixels"].astype(int))
        assert env.render().shape == (256, 256, 3)
        env.close()
    difference = np.abs(images[0] - images[1])
    assert 0 < difference.mean() < 20
    assert np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("name", "similar"), [("cheeta-run", "cheetah-run"), ("walker-runn", "walker-run"), ("cup-cash", "cup-catch")]
)
def test_an_unknown_task_lists_similar_tasks(name: str, similar: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no task '{name}'.*{similar}"):
        DMControl(name)()


def test_a_missing_opengl_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "mujoco.glfw", None)
    with pytest.raises(MissingPackageError, match=r"MUJOCO_GL=glfw does not work here.*set MUJOCO_GL to"):
        DMControl("cheetah-run", pixels=True)()


def test_invalid_actions_are_rejected() -> None:
    env = DMControl("cartpole-swingup")()
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=r"\(1,\), got \(2,\)"):
        env.step(np.zeros(2, dtype=np.float32))
    with pytest.raises(ValueError, match="must be finite"):
        env.step(np.array([np.nan], dtype=np.float32))
