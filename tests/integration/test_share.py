"""The model card reads the rollout files that training and `test` write."""

from pathlib import Path

import pytest

from difftori_pl.cli import run
from difftori_pl.deployment.share import share
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.errors import ConfigurationError
from tests.rl_runs import CONFIG

pytest.importorskip("safetensors")


def test_the_results_of_a_run_are_in_its_model_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for part in ("collect", "rollout"):
        monkeypatch.setattr(f"difftori_pl.callbacks.{part}.EnvPool", LocalPool)
    options = [f"--trainer.logger.save_dir={tmp_path}", "--rollout.env=tests.envs.Point", "--rollout.env.task=point"]
    options += ["--rollout.env.action_repeat=2", "--rollout.n_videos=0", "--rollout.n_episodes=3"]
    options += ["--checkpoint.monitor=rollout/policy/return", "--checkpoint.mode=max"]
    run(["fit", f"--config={CONFIG}", *options, "--trainer.max_steps=10", "--rollout.every_n_env_steps=40"])
    folder = tmp_path / "point/version_0"
    in_training = share(folder / "checkpoints/best.ckpt", tmp_path / "selected").rollouts
    assert [(part.policy, part.stage, part.seeds, part.is_biased) for part in in_training] == [
        ("policy", "fit", (200_000, 200_002), True)
    ]
    run(
        [
            "test",
            f"--config={CONFIG}",
            *options,
            "--rollout.n_episodes=4",
            f"--ckpt_path={folder}/checkpoints/best.ckpt",
        ]
    )
    (tested,) = share(folder, tmp_path / "tested").rollouts
    assert (tested.stage, tested.seeds, tested.is_biased) == ("test", (100_000, 100_003), False)
    card = (tmp_path / "tested/README.md").read_text()
    assert f"| DiffTORIRL | {tested.success} | 4 | seeds 100000 to 100003, test |" in card
    assert "# DiffTORIRL on point" in card
    with pytest.raises(ConfigurationError, match="expected a checkpoint of a run, got the shared policy"):
        run(["test", f"--config={CONFIG}", *options, f"--ckpt_path={tmp_path / 'tested'}"])
    assert "The training data are not recorded" in card
