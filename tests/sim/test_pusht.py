"""Push-T agrees with gym-pusht and with the public demonstrations."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from difftori_pl.cli import main, run
from difftori_pl.envs import PushT
from difftori_pl.envs.pusht_env import PushTEnv, keypoints, to_pixels
from difftori_pl.errors import ConfigurationError, ShapeError

pytestmark = pytest.mark.sim
pytest.importorskip("pymunk")


@pytest.fixture
def env() -> PushTEnv:
    return PushT(obs_keys=["state", "keypoint", "agent_pos"], image_keys=["img"], max_episode_steps=5)()


def test_the_same_seed_gives_the_same_episode(env: PushTEnv) -> None:
    other = PushT(obs_keys=["state"])(seed=9)
    for _ in range(2):
        np.testing.assert_array_equal(env.reset(seed=3)[0]["state"], other.reset(seed=3)[0]["state"])
        np.testing.assert_array_equal(
            env.step(np.array([0.5, -0.2]))[0]["state"], other.step(np.array([0.5, -0.2]))[0]["state"]
        )
    assert not np.array_equal(env.reset(seed=3)[0]["state"], env.reset(seed=4)[0]["state"])


def test_the_pusher_moves_to_the_target_position(env: PushTEnv) -> None:
    env.reset(seed=0)
    env.set_state(np.array([400.0, 450.0, 100.0, 100.0, 0.0]))
    target = np.array([0.5, 0.7])
    for _ in range(10):
        obs, *_ = env.step(target)
    np.testing.assert_allclose(obs["agent_pos"], to_pixels(target), atol=1.0)
    assert env.observation_space.contains(obs)
    assert obs["img"].shape == (3, 96, 96)
    assert env.render().shape == (256, 256, 3)


def test_success_is_coverage_above_the_threshold() -> None:
    nearly = np.array([50.0, 50.0, 259.0, 256.0, np.pi / 4])
    for threshold, succeeds in ((0.95, False), (0.85, True)):
        env = PushT(success_threshold=threshold)()
        env.reset(seed=0)
        env.set_state(nearly)
        _, reward, terminated, truncated, info = env.step(np.array([-0.8, -0.8]))
        assert 0.85 < info["coverage"] < 0.95
        assert reward == pytest.approx(min(info["coverage"] / threshold, 1.0))
        assert (info["success"], terminated, truncated) == (succeeds, succeeds, False)


def test_an_episode_is_truncated_at_its_horizon(env: PushTEnv) -> None:
    env.reset(seed=0)
    assert [env.step(np.zeros(2))[3] for _ in range(5)] == [False] * 4 + [True]


def test_invalid_input_is_rejected(env: PushTEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=r"\(2,\).*\(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.array([np.nan, 0.0]))
    with pytest.raises(ConfigurationError, match="temperature"):
        PushT(obs_keys=["temperature"])
    with pytest.raises(ConfigurationError, match="success_threshold"):
        PushT(success_threshold=95.0)


def test_a_run_is_evaluated_and_appears_in_the_table(
    quick: list[str], files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*quick, f"--data.path={files['pusht']}", f"--trainer.logger.save_dir={tmp_path}"]
    options += ["--model.base_policy=Zeros", "--model.base_policy.action_dim=2", "--model.encoder.hidden_dim=8"]
    config = "--config=il_pusht_low_dim.yaml"
    fitted = run(["fit", config, *options, "--trainer.max_steps=2", "--data.horizon=4"]).trainer
    checkpoint = fitted.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    rollouts = [
        "--rollout.n_episodes=2",
        "--rollout.n_envs=1",
        "--rollout.n_videos=1",
        "--rollout.env.max_episode_steps=4",
    ]
    metrics = run(["test", config, *options, f"--ckpt_path={checkpoint}", *rollouts]).trainer.callback_metrics
    assert 0.0 <= metrics["rollout/policy/max_reward"] <= 1.0
    capsys.readouterr()
    main(["table", "init", f"--runs={tmp_path}"])
    assert re.search(r"zero init\. .* \| 0/2 = 0 % \(0 to 66\), score 0\.\d\d / 0\.62 ± 0\.04", capsys.readouterr().out)
    plot_options = [f"--output={tmp_path}/landscape.png", "--n_samples=2"]
    main(["plot", "landscape", "difftori_pl.envs.PushT", f"--ckpt={checkpoint}", *plot_options])
    assert "modes of 2 samples" in capsys.readouterr().out
    assert len(list(tmp_path.glob("landscape_*.png"))) == 2


def test_human_demonstrations_are_reproduced(env: PushTEnv) -> None:
    if "DIFFTORI_DATA" not in os.environ:
        pytest.skip("DIFFTORI_DATA is not set; it must name a folder with pusht/pusht_cchi_v7_replay.zarr")
    zarr = pytest.importorskip("zarr")
    path = Path(os.environ["DIFFTORI_DATA"]) / "pusht/pusht_cchi_v7_replay.zarr"
    data = zarr.open_group(str(path), mode="r")["data"]
    states, actions = data["state"][:160].astype(float), data["action"][:160].astype(float)
    np.testing.assert_allclose([keypoints(state) for state in states], data["keypoint"][:160], atol=0.15)
    env.reset(seed=0)
    env.set_state(states[0])
    for step in range(100):
        obs, *_ = env.step(actions[step] / 256.0 - 1.0)
        np.testing.assert_allclose(obs["state"], states[step + 1], atol=1e-3)
    # gym-pusht uses another version of the drawing library, so edge pixels differ slightly.
    image = env.set_state(states[100])["img"].astype(float)
    assert np.abs(image - data["img"][100].transpose(2, 0, 1)).mean() < 0.3
