"""A user error ends in a one-line message without a traceback, and with a non-zero exit code."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest
import torch

from difftori_pl import load_policy
from difftori_pl.cli import main, run
from tests.conftest import SMALL, SQUARE_OBS
from tests.data import write_robomimic
from tests.unit.datamodules.formats.test_checks import FAULTS


def message_of(arguments: list[str]) -> str:
    """Run the console script in this process and return its error message."""
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, str), "the exit code must not be 0"
    assert end.value.code.startswith("error: ")
    assert "\n" not in end.value.code
    return end.value.code


@pytest.fixture
def il(quick: list[str]) -> list[str]:
    return ["fit", "--config=il_square_low_dim.yaml", *quick, "--trainer.fast_dev_run=1"]


@pytest.fixture
def bc(quick: list[str]) -> list[str]:
    return ["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, "--trainer.fast_dev_run=1"]


def test_the_process_exits_with_2_and_no_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "difftori_pl", "fit", "--config=bc_rnn_square_low_dim.yaml"]
    command += [f"--data.path={tmp_path}/none.hdf5", f"--trainer.logger.save_dir={tmp_path}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "download_datasets" in done.stderr
    assert "difftori demos square" in done.stderr
    assert "difftori data render" in done.stderr


def test_a_run_in_the_folder_of_another_run(bc: list[str], tmp_path: Path) -> None:
    one_update = [*bc[:-1], "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--rollout.env=null"]
    folder = [f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.name=run", "--trainer.logger.version=mine"]
    main([*one_update, *folder])
    assert f"{tmp_path}/run/mine holds another run: choose another --trainer" in message_of([*one_update, *folder])


def test_missing_base_checkpoint(il: list[str], tmp_path: Path) -> None:
    assert "there is no checkpoint" in message_of([*il, f"--model.base_policy.checkpoint={tmp_path}/none.ckpt"])


def test_unreadable_base_checkpoint(il: list[str], tmp_path: Path) -> None:
    path = tmp_path / "base.ckpt"
    path.write_bytes(b"not a checkpoint")
    assert "is not a readable checkpoint" in message_of([*il, f"--model.base_policy.checkpoint={path}"])


def test_a_checkpoint_without_a_base_policy(il: list[str], tmp_path: Path) -> None:
    path = tmp_path / "base.ckpt"
    torch.save({"weights": torch.zeros(3)}, path)
    assert "does not hold a base policy" in message_of([*il, f"--model.base_policy.checkpoint={path}"])
    main_option = ["--model.base_policy=difftori_pl.from_robomimic", f"--model.base_policy.checkpoint={path}"]
    assert "is not a robomimic checkpoint" in message_of([*il, *main_option])


def test_a_base_trained_on_other_observations(
    il: list[str], train: Callable[..., Path], square: Path, low_dim_base: Path
) -> None:
    said = message_of(
        [
            *il,
            f"--model.base_policy.checkpoint={low_dim_base}",
            "--data.obs_keys=[robot0_eef_pos]",
            "--model.encoder.encoder.obs_dims={robot0_eef_pos: 3}",
        ]
    )
    assert "base_policy" in said
    assert "'object'" in said


def test_a_base_with_another_action_size(il: list[str], low_dim_base: Path, tmp_path: Path) -> None:
    other = write_robomimic(tmp_path / "other.hdf5", [18, 20], SQUARE_OBS, action_dim=5)
    options = [f"--data.path={other}", "--data.action_dim=5", f"--model.base_policy.checkpoint={low_dim_base}"]
    said = message_of([*il, *options])
    assert "7" in said
    assert "5" in said


def test_a_base_whose_normaliser_was_fitted_in_other_units(
    il: list[str], train: Callable[..., Path], square: Path, tmp_path: Path
) -> None:
    base = train("bc_rnn_square_low_dim.yaml", *SMALL, "--model.policy.encoder.normalize=true")
    millimetres = tmp_path / "millimetres.hdf5"
    shutil.copy(square, millimetres)
    with h5py.File(millimetres, "r+") as file:
        for demo in file["data"].values():
            demo["obs/robot0_eef_pos"][...] = 1000.0 * demo["obs/robot0_eef_pos"][...]
    said = message_of([*il, f"--data.path={millimetres}", f"--model.base_policy.checkpoint={base}"])
    assert "base_policy was trained on robot0_eef_pos with a spread of" in said
    assert "same units" in said


def test_data_of_another_action_size(bc: list[str], tmp_path: Path) -> None:
    other = write_robomimic(tmp_path / "other.hdf5", [18, 20], SQUARE_OBS, action_dim=5)
    assert "action_dim" in message_of([*bc, f"--data.path={other}"])


def test_data_of_another_observation_size(bc: list[str], tmp_path: Path) -> None:
    other = write_robomimic(tmp_path / "other.hdf5", [18, 20], SQUARE_OBS | {"object": (9,)})
    said = message_of([*bc, f"--data.path={other}"])
    assert "(14,)" in said
    assert "(9,)" in said


def test_a_missing_key_lists_those_present(bc: list[str], tmp_path: Path) -> None:
    other = write_robomimic(tmp_path / "other.hdf5", [18, 20], {"robot0_eef_pos": (3,)})
    said = message_of([*bc, f"--data.path={other}"])
    assert "object" in said
    assert "robot0_eef_pos" in said


def test_windows_too_short_for_the_horizon(il: list[str], low_dim_base: Path) -> None:
    options = ["--model.horizon=9", "--model.dynamics=LatentDynamics", "--data.horizon=5"]
    said = message_of([*il, *options, f"--model.base_policy.checkpoint={low_dim_base}"])
    assert "too short to plan 9 actions" in said


def test_a_horizon_without_dynamics(il: list[str], low_dim_base: Path) -> None:
    said = message_of([*il, "--model.horizon=3", f"--model.base_policy.checkpoint={low_dim_base}"])
    assert "needs dynamics" in said


@pytest.mark.parametrize("rule", FAULTS)
def test_faults_of_a_file_reach_the_user(bc: list[str], tmp_path: Path, rule: str) -> None:
    corrupt, expected = FAULTS[rule]
    path = write_robomimic(tmp_path / "demos.hdf5", image_keys=["agentview_image"], masks={"few": ["demo_0", "demo_1"]})
    with h5py.File(path, "r+") as file:
        corrupt(file)
    keys = ["--data.obs_keys=[object]", "--data.image_keys=[agentview_image]"]
    said = message_of([*bc, f"--data.path={path}", *keys, "--data.load_next_obs=true", "--data.load_rewards=true"])
    assert re.search(expected, said)


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all", None])
def test_a_file_that_is_not_hdf5(bc: list[str], tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "demos.hdf5"
    whole = write_robomimic(tmp_path / "whole.hdf5").read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content is None else content)
    assert str(path) in message_of([*bc, f"--data.path={path}"])


def test_an_unknown_filter_lists_those_present(bc: list[str], tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "demos.hdf5", [18, 20], SQUARE_OBS, masks={"few": ["demo_0"]})
    said = message_of([*bc, f"--data.path={path}", "--data.train_filter=many"])
    assert "'many'" in said
    assert "few" in said


def test_nan_actions_name_the_place(bc: list[str], tmp_path: Path) -> None:
    path = write_robomimic(tmp_path / "nan.hdf5", [18, 20], SQUARE_OBS)
    with h5py.File(path, "r+") as file:
        file["data/demo_1/actions"][4, 2] = float("nan")
    said = message_of([*bc, f"--data.path={path}"])
    assert "demo_1" in said
    assert "4" in said


def test_an_unknown_key_is_refused(bc: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main([*bc, "--model.no_such_key=1"])
    assert end.value.code == 2
    assert "no_such_key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (
            b"template: [bc_rnn_square_low_dim.yaml]\ndata:\n\tinit_args: {}\n",
            "line 3: not valid YAML: .*spaces, not tabs",
        ),
        (b"data: [1, 2\n", "line 2: not valid YAML"),
        (b"# caf\xe9\n", "line 1: expected UTF-8"),
        (b"- a\n- b\n", "expected a mapping of options, got a list"),
        (b"hello\n", "expected a mapping of options, got a str"),
        (None, "Is a directory"),
    ],
)
def test_a_configuration_that_cannot_be_read(content: bytes | None, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    if content is None:
        path.mkdir()
    else:
        path.write_bytes(content)
    said = message_of(["fit", f"--config={path}"])
    assert re.search(f"own.yaml.*{expected}", said), said


def test_one_template_needs_no_list(tmp_path: Path, quick: list[str]) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(
        "template: bc_rnn_square_low_dim.yaml\nmodel: {init_args: {policy: {init_args: {hidden_dim: 9}}}}\n"
    )
    cli = run(["fit", f"--config={path}", *quick, "--trainer.fast_dev_run=1"])
    assert cli.model.policy.encoder.rnn.hidden_size == 9  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--data.batch_size=0", "batch_size must be at least 1, got 0"),
        ("--data.n_workers=-1", "n_workers must be at least 0, got -1"),
        ("--data.n_demos=0", "n_demos must be at least 1, got 0"),
        ("--data.validation_fraction=1.0", "validation_fraction must be at least 0 and below 1, got 1.0"),
        ("--data.horizon=0", "horizon|steps"),
        ("--trainer.logger=WandbLogger", "wandb"),
        (
            "--trainer.precision=bf16-true",
            "weights are trained in float32, got trainer.precision bf16-true: use --trainer.precision=bf16-mixed",
        ),
        ("--rollout.first_seed=-5", "first_seed must be 0 or above, got -5"),
    ],
)
def test_an_invalid_value(bc: list[str], option: str, message: str) -> None:
    assert re.search(message, message_of([*bc, option]))


def test_an_unknown_metric_to_monitor(bc: list[str]) -> None:
    options = [*bc[:-1], "--trainer.max_epochs=1", "--trainer.max_steps=-1", "--rollout.env=null"]
    assert "val/los" in message_of([*options, "--checkpoint.monitor=val/los"])


def test_training_without_checkpoints(bc: list[str], tmp_path: Path) -> None:
    options = [*bc[:-1], "--trainer.max_steps=1", "--rollout.env=null", f"--trainer.logger.save_dir={tmp_path}"]
    main([*options, "--trainer.enable_checkpointing=false"])
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_test_without_batches_would_skip_the_rollouts(bc: list[str], low_dim_base: Path) -> None:
    options = ["test", *bc[1:-1], f"--ckpt_path={low_dim_base}", "--trainer.limit_test_batches=0"]
    assert "--trainer.limit_test_batches must be above 0 for `test`, got 0: nothing would run" in message_of(options)


@pytest.fixture
def il_checkpoint(il: list[str], low_dim_base: Path, tmp_path: Path) -> Path:
    base = f"--model.base_policy.checkpoint={low_dim_base}"
    folder = [f"--trainer.logger.save_dir={tmp_path}", "--trainer.logger.version=0"]
    run([*il[:-1], base, "--trainer.max_steps=1", "--trainer.limit_val_batches=0", "--rollout.env=null", *folder])
    return next(tmp_path.rglob("last.ckpt"))


def test_a_part_on_the_command_line_must_be_that_of_the_checkpoint(
    il: list[str], il_checkpoint: Path, low_dim_base: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    resumed = [*il, f"--ckpt_path={il_checkpoint}"]
    for option, kept in (
        ("--model.trajopt.solver=solver/adam.yaml", "LevenbergMarquardt"),
        ("--model.trajopt.solver=Adam", "LevenbergMarquardt"),
        ("--model.lr_scheduler=null", "CosineAnnealingLR"),
    ):
        said = message_of([*resumed, option, f"--model.base_policy.checkpoint={low_dim_base}"])
        assert f"{option.partition('=')[0]} would have no effect" in said
        assert kept in said
    # Options of the first run and single values are accepted.
    resumed = [*il[:-1], f"--ckpt_path={il_checkpoint}", "--trainer.max_steps=2", "--rollout.env=null"]
    cli = run([*resumed, f"--model.base_policy.checkpoint={low_dim_base}", "--model.trajopt.solver.max_steps=3"])
    assert cli.model.trajopt.solver.max_steps == 3  # type: ignore[attr-defined]
    assert "--model.base_policy.checkpoint is ignored: the checkpoint of this run already holds" in caplog.text


def test_checkpoints_are_found_in_the_home_folder(
    il_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(il_checkpoint.parent))
    main(["checkpoint", "show", "~/last.ckpt"])
    assert "DiffTORIIL" in capsys.readouterr().out
    assert load_policy("~/last.ckpt").obs_specs
    main(["checkpoint", "show", str(il_checkpoint.parent)])
    assert "DiffTORIIL" in capsys.readouterr().out
    other = il_checkpoint.rename(il_checkpoint.with_name("other.ckpt"))
    said = message_of(["checkpoint", "show", str(other.parent)])
    assert f"is a folder, not a checkpoint: its newest checkpoint is {other}" in said
