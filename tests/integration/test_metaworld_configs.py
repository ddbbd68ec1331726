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
        "--checkpoint.monitor=null",
        f"--rollout.env.cloud.n_points={N_POINTS}",
        "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false",
        "--trainer.accelerator=cpu",
        "--trainer.log_every_n_steps=1",
        "--trainer.check_val_every_n_epoch=1",
        f"--trainer.logger.save_dir={folder}",
    ]


@pytest.mark.parametrize(
    ("task", "base", "config", "expected"),
    [
        ("push-v3", "diffusion_metaworld", "il_metaworld", (4, True)),
        ("shelf-place-v3", "diffusion_metaworld_state", "il_metaworld_state_diffusion", (4, True)),
        ("peg-insert-side-v3", "bc_metaworld_state", "il_metaworld_state", (1, False)),
        ("peg-insert-side-v3", "bc_metaworld_state", "residual_metaworld_state", None),
    ],
)
def test_a_base_and_its_refinement_train_on_any_task(
    task: str, base: str, config: str, expected: tuple[int, bool] | None, tmp_path: Path
) -> None:
    options = options_for(task, tmp_path)
    small = ["--model.policy.dims=[8, 16]"] if "diffusion" in base else []
    clouds = "state" not in base
    small += [f"--model.policy.encoder.n_points={N_POINTS}"] if clouds else []
    trainer = run(["fit", f"--config={base}.yaml", *options, *small, "--trainer.max_steps=1"]).trainer
    name = base.replace("metaworld", task)
    assert trainer.log_dir == str(tmp_path / name / "version_0")
    part = "policy.base" if config.startswith("residual") else "base_policy"
    own = [f"--model.{part}.checkpoint={tmp_path / name}"]
    own += [f"--model.encoder.encoder.n_points={N_POINTS}"] if clouds else []
    cli = run(["fit", f"--config={config}.yaml", *options, *own, FAST])
    if expected:
        assert (cli.model.horizon, cli.model.chunked) == expected
        assert torch.isfinite(cli.trainer.callback_metrics["val/base_action_error"])
    for metric in ("train/loss", "val/action_error"):
        assert torch.isfinite(cli.trainer.callback_metrics[metric])
    other = [*options, *own, "--data.task=reach-v3", f"--data.path={write_metaworld(tmp_path / 'r.hdf5', 'reach-v3')}"]
    with pytest.raises(SystemExit, match=f"{part} was trained with env_id '{task}', but the data has 'reach-v3'"):
        main(["fit", f"--config={config}.yaml", *other, FAST])


def test_difftori_trains_without_a_base_policy(tmp_path: Path) -> None:
    cli = run(["fit", "--config=il_metaworld_zeros.yaml", *options_for("hammer-v3", tmp_path), FAST])
    assert torch.isfinite(cli.trainer.callback_metrics["train/loss"])


def test_difftori_trains_with_corrupted_observations(tmp_path: Path) -> None:
    base = ["--model.base_policy=base_policy/zeros.yaml", "--model.base_policy.action_dim=4"]
    corrupted = ["--model.encoder=metaworld/corrupted_state_encoder.yaml", "--model.encoder.dropout=0.1"]
    cli = run(["fit", "--config=il_metaworld_state.yaml", *options_for("push-v3", tmp_path), *base, *corrupted, FAST])
    assert (cli.model.encoder.noise, cli.model.encoder.dropout) == (0.05, 0.1)
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
