"""The configurations of Meta-World through the command line, each for any task."""

from pathlib import Path

import pytest
import torch
import yaml

from difftori_pl.cli import main, run
from tests.data import METAWORLD_CLOUD, write_metaworld

FAST = "--trainer.fast_dev_run=1"
N_POINTS = METAWORLD_CLOUD["n_points"]


def options_for(task: str, folder: Path) -> list[str]:
    return [
        f"--data.task={task}",
        f"--data.path={write_metaworld(folder / f'{task}.hdf5', task)}",
        "--data.batch_size=4",
        "--data.validation_fraction=0.34",
        f"--rollout.env.cloud.n_points={N_POINTS}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        "--trainer.check_val_every_n_epoch=1",
        f"--trainer.logger.save_dir={folder}",
    ]


@pytest.mark.parametrize(
    ("task", "ending", "encoder"),
    [
        ("push-v3", "", "encoder.encoder"),
        ("shelf-place-v3", "_state", None),
        ("peg-insert-side-v3", "_state", None),
    ],
)
def test_base_and_difftori_train_on_any_task(task: str, ending: str, encoder: str | None, tmp_path: Path) -> None:
    options = options_for(task, tmp_path)
    small = ["--model.policy.dims=[8, 16]"]
    small += [f"--model.policy.encoder.n_points={N_POINTS}"] if encoder else []
    base = run(["fit", f"--config=diffusion_metaworld{ending}.yaml", *options, *small, "--trainer.max_steps=1"]).trainer
    assert base.log_dir == str(tmp_path / f"diffusion_{task}{ending}" / "version_0")
    checkpoint = base.checkpoint_callback.last_model_path  # type: ignore[union-attr]
    own = [f"--model.base_policy.checkpoint={checkpoint}"]
    own += [f"--model.{encoder}.n_points={N_POINTS}"] if encoder else []
    cli = run(["fit", f"--config=il_metaworld{ending}.yaml", *options, *own, FAST])
    assert (cli.model.horizon, cli.model.chunked, cli.model.encoder.latent_dim % 2) == (4, True, 0)
    for name in ("train/loss", "val/action_error", "val/base_action_error"):
        assert torch.isfinite(cli.trainer.callback_metrics[name])
    other = [*options, *own, "--data.task=reach-v3", f"--data.path={write_metaworld(tmp_path / 'r.hdf5', 'reach-v3')}"]
    with pytest.raises(SystemExit, match=f"base_policy was trained with env_id '{task}', but the data has 'reach-v3'"):
        main(["fit", f"--config=il_metaworld{ending}.yaml", *other, FAST])


def test_difftori_trains_without_a_base_policy(tmp_path: Path) -> None:
    cli = run(["fit", "--config=il_metaworld_zeros.yaml", *options_for("hammer-v3", tmp_path), FAST])
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])


def test_the_task_is_set_in_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["fit", "--config=il_metaworld.yaml", "--data.task=soccer-v3", "--print_config"])
    assert end.value.code == 0
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["data"]["init_args"]["path"] == "demos/metaworld/soccer-v3.hdf5"
    assert config["rollout"]["env"]["init_args"]["task"] == "soccer-v3"
    assert config["rollout"]["env"]["init_args"]["obs_keys"] == config["data"]["init_args"]["obs_keys"]
    base = config["model"]["init_args"]["base_policy"]["init_args"]["checkpoint"]
    assert base == "runs/diffusion_soccer-v3"
