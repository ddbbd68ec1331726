"""Meta-World's tasks, and demonstrations by its scripted experts."""

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest

from difftori_pl.cli import main, run
from difftori_pl.demos import MetaWorldPlayer, record
from difftori_pl.envs import DepthCloud, MetaWorld
from difftori_pl.envs.metaworld_env import MetaWorldEnv, import_metaworld
from difftori_pl.errors import ConfigurationError, ShapeError

pytestmark = pytest.mark.sim
pytest.importorskip("metaworld")


@pytest.fixture(scope="module")
def env() -> Iterator[MetaWorldEnv]:
    os.environ.setdefault("MUJOCO_GL", "osmesa")
    env = MetaWorld("peg-insert-side-v3", ["state", "agent_pos", "point_cloud"], max_episode_steps=3)()
    yield env
    env.close()


@pytest.mark.parametrize("task", ["peg-insert-side-v3", "door-open-v3"])
def test_the_same_seed_gives_the_same_episode(task: str) -> None:
    first, second = MetaWorld(task, ["state", "agent_pos"])(seed=1), MetaWorld(task, ["state", "agent_pos"])(seed=2)
    first.reset(seed=5)
    for _ in range(3):
        first.step(np.ones(4))
    for env in (first, second):
        start, info = env.reset(seed=3)
        assert info == {"success": False, "seed": 3}
        after = env.step(np.array([0.5, -0.2, 0.1, 1.0]))[0]
        if env is first:
            expected = start, after
    for key in start:
        np.testing.assert_array_equal(expected[0][key], start[key])
        np.testing.assert_array_equal(expected[1][key], after[key])
    assert not np.array_equal(first.reset(seed=4)[0]["state"], start["state"])
    assert not np.array_equal(first.reset()[0]["state"], first.reset()[0]["state"])


def test_observations_are_in_metres_in_the_world_frame(env: MetaWorldEnv) -> None:
    obs, _ = env.reset(seed=0)
    assert env.observation_space.contains(obs)
    assert {key: value.shape for key, value in obs.items()} == {
        "state": (39,),
        "agent_pos": (9,),
        "point_cloud": (512, 3),
    }
    np.testing.assert_array_equal(obs["state"][:3], obs["agent_pos"][:3])
    np.testing.assert_array_equal(obs["state"][:18], obs["state"][18:36])
    np.testing.assert_allclose(obs["state"][36:], env.simulator._target_pos, rtol=1e-6)
    # The cloud has points at the hand and the peg, but none of the table.
    for place in (obs["agent_pos"][3:6], obs["state"][4:7]):
        assert np.linalg.norm(obs["point_cloud"] - place, axis=1).min() < 0.04
    assert obs["point_cloud"][:, 2].min() >= 0.005
    np.testing.assert_array_equal(obs["point_cloud"], env.observe()["point_cloud"])
    assert env.render().shape == (256, 256, 3)


def test_an_episode_is_truncated_at_its_horizon(env: MetaWorldEnv) -> None:
    env.reset(seed=0)
    outcomes = [env.step(np.zeros(4)) for _ in range(3)]
    assert [(terminated, truncated) for _, _, terminated, truncated, _ in outcomes] == [(False, False)] * 2 + [
        (False, True)
    ]
    assert all(info["success"] is False for *_, info in outcomes)


def test_invalid_input_is_rejected(env: MetaWorldEnv) -> None:
    env.reset(seed=0)
    with pytest.raises(ShapeError, match=r"\(4,\).*\(3,\)"):
        env.step(np.zeros(3))
    with pytest.raises(ValueError, match="finite"):
        env.step(np.full(4, np.nan))
    with pytest.raises(ConfigurationError, match=r"no task 'peg-insert'; it has .*peg-insert-side-v3"):
        MetaWorld("peg-insert")()
    with pytest.raises(ConfigurationError, match="no camera 'corner9'"):
        MetaWorld("reach-v3", cloud=DepthCloud(camera="corner9"))()


def test_the_documented_tasks_exist_in_meta_world() -> None:
    page = (Path(__file__).parents[2] / "docs/metaworld.md").read_text()
    rows = re.findall(r"^\| (?:medium|hard|very hard) \| (.*) \|$", page, re.MULTILINE)
    named = re.findall(r"`([\w-]+-v3)`", "".join(rows))
    assert len(set(named)) == 22
    assert set(named) <= set(import_metaworld("metaworld.policies").ENV_POLICY_MAP)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demos") / "metaworld" / "coffee-button-v3.hdf5"
    options = ["--task=coffee-button-v3", "--episodes=3", "--seed=4", "--cloud.n_points=32", "--n_processes=1"]
    main(["demos", "metaworld", *options, f"--output={path}"])
    return path


def test_replaying_a_recording_gives_the_same_episode(recorded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    env = MetaWorld("coffee-button-v3", ["state"])()
    with h5py.File(recorded, "r") as file:
        for demo in file["data"].values():
            obs, _ = env.reset(seed=int(demo.attrs["seed"]))
            for step, action in enumerate(demo["actions"]):
                np.testing.assert_array_equal(obs["state"], demo["obs/state"][step])
                obs, reward, success, _, _ = env.step(action)
                assert (reward, success) == (demo["rewards"][step], demo["dones"][step])
            assert demo["dones"][:].sum() == 5
            assert demo["obs/point_cloud"].shape[1:] == (32, 3)
    main(["data", "check", str(recorded)])
    assert "no faults. coffee-button-v3, 3 demos" in capsys.readouterr().out


def test_a_finished_recording_is_not_repeated_or_overwritten(recorded: Path) -> None:
    player = MetaWorldPlayer("coffee-button-v3", DepthCloud(n_points=32))
    assert record(player, recorded, 3, seed=4, n_processes=1, progress=False).n_demos == 3
    with pytest.raises(ConfigurationError, match="exists with other demos"):
        record(MetaWorldPlayer("coffee-button-v3", None), recorded, 3, seed=4, progress=False)
    with pytest.raises(ConfigurationError, match="no task 'coffee'"):
        MetaWorldPlayer("coffee")


def test_failed_episodes_are_counted_and_left_out(tmp_path: Path) -> None:
    player = MetaWorldPlayer("coffee-button-v3", None, max_steps=41)  # some episodes take longer
    outcomes = [player.play(seed) is not None for seed in range(4)]
    assert 0 < sum(outcomes) < 4
    n_demos = sum(outcomes)
    recording = record(player, tmp_path / "some.hdf5", n_demos, n_processes=1, progress=False)
    assert recording.n_demos == n_demos
    assert recording.n_failures >= outcomes[:n_demos].count(False)


def test_base_and_difftori_are_evaluated_on_the_same_states(
    recorded: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data.task=coffee-button-v3", f"--data.path={recorded}", f"--trainer.logger.save_dir={tmp_path}"]
    options += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--data.batch_size=4"]
    options += [
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=2",
        "--trainer.log_every_n_steps=1",
        "--data.validation_fraction=0.34",
        "--checkpoint.monitor=null",
    ]
    small = ["--model.policy.dims=[8,16]", "--model.policy.encoder.n_points=32"]
    fit = ["fit", "--config=diffusion_metaworld.yaml", *options, *small]
    with pytest.raises(SystemExit, match="n_points 32, but the environment has 512"):
        main(fit)
    cloud = "--rollout.env.cloud.n_points=32"
    base = run([*fit, cloud]).trainer
    checkpoint = base.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    own = [f"--model.base_policy.checkpoint={checkpoint}", "--model.encoder.encoder.n_points=32"]
    fitted = run(["fit", "--config=il_metaworld.yaml", *options, *own, cloud]).trainer
    trained = f"--ckpt_path={fitted.checkpoint_callback.last_model_path}"  # type: ignore[union-attr]
    rollouts = ["--rollout.n_episodes=2", "--rollout.n_envs=2", "--rollout.n_videos=1"]
    rollouts += [cloud, "--rollout.env.max_episode_steps=9"]
    metrics = run(["test", "--config=il_metaworld.yaml", *options, *own, trained, *rollouts]).trainer.callback_metrics
    for name in ("policy", "base"):
        assert metrics[f"rollout/{name}/crashed_episodes"] == 0
        assert metrics[f"rollout/{name}/episode_length_steps"] == 9
    seeds = [
        [json.loads(line)["seed"] for line in path.read_text().splitlines()]
        for path in tmp_path.rglob("rollouts_*.jsonl")
    ]
    assert [sorted(numbers) for numbers in seeds] == [[100_000, 100_001]] * 2
    assert list(tmp_path.rglob("*.mp4"))


def test_training_selects_by_rollouts(recorded: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = ["--data.task=coffee-button-v3", f"--data.path={recorded}", f"--trainer.logger.save_dir={tmp_path}"]
    options += ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--data.batch_size=4"]
    options += ["--data.validation_fraction=0.34", "--trainer.accelerator=cpu", "--trainer.log_every_n_steps=1"]
    options += ["--trainer.max_steps=4", "--rollout.every_n_train_steps=2", "--rollout.n_videos=0"]
    options += ["--rollout.n_episodes=3", "--rollout.env.max_episode_steps=9"]
    run(["fit", "--config=bc_metaworld_state.yaml", *options])
    base = tmp_path / "bc_coffee-button-v3_state"
    assert len(list(base.rglob("rollouts_step*_policy.jsonl"))) == 3
    il = ["--config=il_metaworld_state.yaml", *options, f"--model.base_policy.checkpoint={base}"]
    run(["fit", *il])
    # No policy succeeds within nine steps, so that the untrained refinement is selected.
    assert "which is selected and acts as its base policy" in caplog.text
    trainer = run(["test", *il, "--ckpt_path=best"]).trainer
    rewards = [
        [json.loads(line)["total_reward"] for line in path.read_text().splitlines()]
        for path in sorted(Path(trainer.log_dir).glob("rollouts_step0_*.jsonl"))
    ]
    assert len(rewards) == 2
    assert rewards[0] == pytest.approx(rewards[1], rel=1e-4)
