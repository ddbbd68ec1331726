import numpy as np
import pytest
import yaml

from difftori_pl.cli import run
from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.envs.robosuite_import import make_task, robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import find_release
from difftori_pl.errors import ConfigurationError, ShapeError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]


def _actions(n_steps: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (n_steps, 7)).astype(np.float32)


def test_an_episode_is_bitwise_equal_to_robosuites(square_env: RobosuiteEnv) -> None:
    release = find_release()
    raw = make_task("NutAssemblySquare", release.env_kwargs(robomimic_env_kwargs(("Panda",))))
    np.random.seed(5)
    release.seed(raw, 5)
    raw.reset()
    square_env.reset(seed=1)
    square_env.reset(seed=5)
    for action in _actions(20):
        raw.step(action.astype(np.float64))
        square_env.step(action)
    np.testing.assert_array_equal(square_env.state(), raw.sim.get_state().flatten())


def test_the_same_seed_gives_the_same_episode_in_another_environment(square_env: RobosuiteEnv) -> None:
    other = Robosuite("NutAssemblySquare")(seed=7)
    other.reset(seed=11)
    square_env.reset(seed=3)
    other.reset(seed=3)
    np.testing.assert_array_equal(square_env.state(), other.state())
    for action in _actions(5):
        square_env.step(action)
        other.step(action)
    np.testing.assert_array_equal(square_env.state(), other.state())
    other.close()


def test_reset_does_not_change_numpys_global_generator(square_env: RobosuiteEnv) -> None:
    np.random.seed(0)
    expected = np.random.random()
    np.random.seed(0)
    square_env.reset(seed=4)
    assert np.random.random() == expected


def test_observations_are_of_the_final_state_of_a_step(square_env: RobosuiteEnv) -> None:
    square_env.reset(seed=2)
    for action in _actions(5):
        obs, _, terminated, truncated, info = square_env.step(action)
    assert square_env.observation_space.contains(obs)
    assert (terminated, truncated, info["success"]) == (False, False, False)
    for key, value in square_env.set_state(square_env.state()).items():
        np.testing.assert_array_equal(obs[key], value, err_msg=key)


def test_an_episode_is_truncated_at_its_horizon() -> None:
    env = Robosuite("Lift", max_episode_steps=2)()
    env.reset(seed=0)
    assert [env.step(action)[3] for action in _actions(2)] == [False, True]
    env.close()


def test_a_stored_model_gives_the_stored_observations() -> None:
    # The size of the cube varies between episodes.
    env = Robosuite("Lift")()
    env.reset(seed=0)
    state, model, size = env.state(), env.model_file(), _cube(env)
    obs = env.observe()
    env.reset(seed=1)
    assert not np.array_equal(_cube(env), size)
    restored = env.set_state(state, model)
    np.testing.assert_array_equal(_cube(env), size)
    for key in obs:
        np.testing.assert_array_equal(obs[key], restored[key], err_msg=key)
    assert "site-packages" not in model
    env.close()


def _cube(env: RobosuiteEnv) -> np.ndarray:
    model = env.robosuite.sim.model
    return model.geom_size[model.geom_name2id("cube_g0")].copy()


def test_invalid_input_is_rejected(square_env: RobosuiteEnv) -> None:
    square_env.reset(seed=0)
    with pytest.raises(ShapeError, match="action"):
        square_env.step(np.zeros(6, dtype=np.float32))
    with pytest.raises(ValueError, match="finite"):
        square_env.step(np.full(7, np.nan, dtype=np.float32))
    with pytest.raises(ShapeError, match="state"):
        square_env.set_state(np.zeros(3))
    with pytest.raises(ConfigurationError, match="no task 'Knit'"):
        Robosuite("Knit")()
    with pytest.raises(ConfigurationError, match="robot0_eef_pos"):
        Robosuite("Lift", obs_keys=["temperature"])()
    with pytest.raises(ConfigurationError, match="<camera>_image"):
        Robosuite("Lift", image_keys=["agentview"])


@pytest.mark.parametrize(("task", "action_dim"), [("transport", 14), ("tool_hang", 7)])
def test_shipped_environments_match_the_shipped_encoders(
    task: str, action_dim: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def shipped(config: str) -> tuple[dict, dict, dict]:
        """Return the arguments of environment, data and encoder in a shipped configuration."""
        with pytest.raises(SystemExit):
            run(["fit", f"--config={config}", "--print_config"])
        printed = yaml.safe_load(capsys.readouterr().out)
        encoder = printed["model"]["init_args"]["policy"]["init_args"]["encoder"]
        return tuple(part["init_args"] for part in (printed["rollout"]["env"], printed["data"], encoder))

    arguments, data, encoder = shipped(f"bc_rnn_{task}_low_dim.yaml")
    recipe = Robosuite(**arguments)
    assert recipe.max_episode_steps == 700  # robomimic's horizon
    env = recipe()
    obs, _ = env.reset(seed=0)
    assert {key: value.shape[0] for key, value in obs.items()} == encoder["obs_dims"]
    assert set(obs) == set(data["obs_keys"])
    assert env.action_space.shape == (action_dim,) == (data["action_dim"],)
    assert env.step(np.zeros(action_dim, np.float32))[2:4] == (False, False)
    arguments, data, encoder = shipped(f"bc_rnn_{task}.yaml")
    images = Robosuite(**arguments)
    for camera in images.image_keys:
        frame = env.render_camera(camera.removesuffix("_image"), images.image_size)
        assert frame.shape == (encoder["image_size"], encoder["image_size"], 3)
        assert frame.std() > 1
    assert list(images.image_keys) == encoder["cameras"] == data["image_keys"]
    env.close()
