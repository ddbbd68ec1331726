import json
from pathlib import Path

import h5py
import numpy as np
import pytest

from difftori_pl.demos import RobosuitePlayer, record, render, robosuite
from difftori_pl.demos.episode import play
from difftori_pl.demos.square import SquareExpert
from difftori_pl.envs import Robosuite
from difftori_pl.envs.robosuite_env import RobosuiteEnv
from difftori_pl.errors import ConfigurationError

pytestmark = [pytest.mark.sim, pytest.mark.robosuite]


@pytest.fixture(scope="module")
def lift_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "lift.hdf5"
    assert record(RobosuitePlayer("lift"), path, episodes=2, seed=10, n_processes=1, progress=False).n_demos == 2
    return path


def test_recordings_have_the_layout_of_robomimic(lift_file: Path) -> None:
    with h5py.File(lift_file, "r") as file:
        assert json.loads(file["data"].attrs["env_args"])["env_name"] == "Lift"
        assert file["data"].attrs["total"] == sum(len(demo["actions"]) for demo in file["data"].values())
        names = [*file["mask/train"].asstr()[()], *file["mask/valid"].asstr()[()]]
        assert sorted(names) == sorted(file["data"]) == ["demo_0", "demo_1"]
        for demo in file["data"].values():
            n_steps = demo.attrs["num_samples"]
            assert all(len(demo[key]) == n_steps for key in ("actions", "states", "rewards", "dones"))
            assert np.abs(demo["actions"]).max() <= 1
            np.testing.assert_array_equal(demo["dones"], [0] * (n_steps - 5) + [1] * 5)
            for key in demo["obs"]:
                np.testing.assert_array_equal(demo["obs"][key][1:], demo["next_obs"][key][:-1])


def test_an_interrupted_recording_is_resumed(lift_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lift.hdf5"
    played = []

    def interrupted(env: RobosuiteEnv, expert: SquareExpert, seed: int, max_steps: int) -> object:
        played.append(seed)
        if played == [10, 11]:
            raise KeyboardInterrupt
        return play(env, expert, seed, max_steps)

    monkeypatch.setattr(robosuite, "play", interrupted)
    with pytest.raises(KeyboardInterrupt):
        record(RobosuitePlayer("lift"), path, episodes=2, seed=10, n_processes=1, progress=False)
    assert not path.exists()
    with pytest.raises(ConfigurationError, match="has parts of another recording or conversion"):
        record(RobosuitePlayer("lift"), path, episodes=2, seed=99, n_processes=1, progress=False)
    record(RobosuitePlayer("lift"), path, episodes=2, seed=10, n_processes=1, progress=False)
    assert played == [10, 11, 11]
    with h5py.File(path, "r") as resumed, h5py.File(lift_file, "r") as whole:
        for demo in whole["data"]:
            np.testing.assert_array_equal(resumed["data"][demo]["states"], whole["data"][demo]["states"])
    assert [file.name for file in tmp_path.iterdir()] == ["lift.hdf5"]
    assert record(RobosuitePlayer("lift"), path, episodes=2, seed=10, progress=False).n_demos == 2
    with pytest.raises(ConfigurationError, match="exists with other demos"):
        record(RobosuitePlayer("lift"), path, episodes=3, seed=10, progress=False)


def test_rendered_images_equal_those_of_the_environment(lift_file: Path, tmp_path: Path) -> None:
    output = tmp_path / "image.hdf5"
    look = {"shadows": False, "multisampling": False, "reflections": False}
    rendering = render(lift_file, output, ["agentview"], 48, n_processes=1, progress=False, n_demos=1, **look)
    assert rendering.n_frames > 0
    with h5py.File(lift_file, "r") as old, h5py.File(output, "r") as new:
        assert list(new["data"]) == ["demo_0"]
        assert sum(len(members) for members in new["mask"].values()) == 1
        env_args = json.loads(new["data"].attrs["env_args"])
        env = Robosuite.from_env_args(env_args, image_keys=["agentview_image"], image_size=48, **look)()
        for name, demo in new["data"].items():
            np.testing.assert_array_equal(demo["states"], old["data"][name]["states"])
            images, after = demo["obs/agentview_image"], demo["next_obs/agentview_image"]
            np.testing.assert_array_equal(images[1:], after[:-1])
            obs, _ = env.reset(seed=int(demo.attrs["seed"]))
            for step, action in enumerate(demo["actions"][()]):
                np.testing.assert_array_equal(obs["agentview_image"].transpose(1, 2, 0), images[step])
                obs, *_ = env.step(action.astype(np.float32))
            # The file does not store the state after the last action. It is simulated again, without the solver's
            # warm start, so a few pixels differ.
            wrong = obs["agentview_image"].transpose(1, 2, 0) != after[-1]
            assert wrong.mean() < 0.02
        env.close()


def test_a_file_without_states_cannot_be_rendered(tmp_path: Path) -> None:
    path = tmp_path / "x.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data/demo_0")["actions"] = np.zeros((2, 7))
        file["data"].attrs["env_args"] = '{"env_name": "Lift"}'
    with pytest.raises(ConfigurationError, match="demo_0"):
        render(path, tmp_path / "y.hdf5", n_processes=1)


@pytest.mark.parametrize("seed", [0, 4])
def test_the_square_expert_succeeds(square_env: RobosuiteEnv, seed: int) -> None:
    episode = play(square_env, SquareExpert(), seed, 400)
    assert episode is not None
    assert 80 < len(episode["actions"]) < 300


@pytest.mark.slow
def test_the_square_expert_succeeds_nine_times_out_of_ten(square_env: RobosuiteEnv) -> None:
    assert sum(play(square_env, SquareExpert(), seed, 400) is not None for seed in range(20)) >= 18
