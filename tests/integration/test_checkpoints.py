"""Checkpoints load without other files, restore the exact module, and can be resumed."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datamodules import RobomimicDataModule
from difftori_pl import BehaviorCloning, DiffTORIIL, from_checkpoint
from difftori_pl.cli import main, run
from difftori_pl.errors import CheckpointError, ConfigurationError
from tests.conftest import SMALL, SQUARE_OBS


def batch_of(path: Path) -> dict[str, torch.Tensor]:
    data = RobomimicDataModule(str(path), list(SQUARE_OBS), action_dim=7, horizon=5, validation_fraction=0.0)
    data.setup("fit")
    return next(iter(data.train_dataloader()))  # type: ignore[return-value]


def actions(module: DiffTORIIL | BehaviorCloning, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(3)
    return module.eval().predict_step(batch, 0)  # type: ignore[arg-type]


def test_a_checkpoint_needs_no_other_file_and_gives_the_same_actions(
    train: Callable[..., Path], square: Path, low_dim_base: Path, tmp_path: Path, quick: list[str]
) -> None:
    base = tmp_path / "base.ckpt"
    base.write_bytes(low_dim_base.read_bytes())
    options = [f"--model.base_policy.checkpoint={base}", "--model.prior_temperature=1.0", "--trainer.max_steps=2"]
    cli = run(["fit", "--config=il_square_low_dim.yaml", *quick, *options])
    path = Path(cli.trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    base.unlink()
    loaded = DiffTORIIL.load_from_checkpoint(path, weights_only=True)
    batch = batch_of(square)
    assert torch.equal(actions(loaded, batch), actions(cli.model, batch))


def test_a_residual_policy_needs_no_other_file_and_can_be_a_base_policy(
    train: Callable[..., Path], square: Path, low_dim_base: Path, tmp_path: Path
) -> None:
    base = tmp_path / "base.ckpt"
    base.write_bytes(low_dim_base.read_bytes())
    options = [f"--model.policy.base.checkpoint={base}", "--model.policy.encoder.hidden_dim=8"]
    path = train("residual_square_low_dim.yaml", *options)
    base.unlink()
    module = BehaviorCloning.load_from_checkpoint(path, weights_only=True)
    batch = batch_of(square)
    assert torch.equal(actions(module, batch), actions(BehaviorCloning(from_checkpoint(str(path))), batch))
    assert module.describe() == "Residual + BCRNNGMM"
    refined = train("il_square_low_dim.yaml", f"--model.base_policy.checkpoint={path}", "--model.encoder.hidden_dim=8")
    path.unlink()
    loaded = DiffTORIIL.load_from_checkpoint(refined, weights_only=True)
    assert loaded.describe() == "DiffTORIIL + Residual + BCRNNGMM"
    assert torch.isfinite(actions(loaded, batch)).all()


def test_base_policies_need_no_other_file(low_dim_base: Path, square: Path) -> None:
    batch = batch_of(square)
    module = BehaviorCloning.load_from_checkpoint(low_dim_base, weights_only=True)
    policy = BehaviorCloning(from_checkpoint(str(low_dim_base)))
    assert torch.equal(actions(module, batch), actions(policy, batch))


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(train: Callable[..., Path]) -> None:
    config = "bc_rnn_square_low_dim.yaml"
    schedule = ["--model.lr_scheduler.T_max=100", "--trainer.max_steps=-1"]
    whole = train(config, *SMALL, *schedule, "--trainer.max_epochs=2")
    half = train(config, *SMALL, *schedule, "--trainer.max_epochs=1")
    resumed = train(config, *SMALL, *schedule, "--trainer.max_epochs=2", f"--ckpt_path={half}")
    first, second = (torch.load(path, weights_only=True) for path in (whole, resumed))
    assert first["global_step"] == second["global_step"] > torch.load(half, weights_only=True)["global_step"]
    for name, value in first["state_dict"].items():
        assert torch.equal(value, second["state_dict"][name]), name


def test_test_needs_only_the_checkpoint_for_the_model(low_dim_base: Path, quick: list[str]) -> None:
    data = [option for option in quick if option.startswith("--data")]
    cli = run(
        ["test", "--config=bc_rnn_square_low_dim.yaml", *quick, f"--ckpt_path={low_dim_base}", "--rollout.env=null"]
    )
    assert cli.model.policy.mean.in_features == 8  # the checkpoint's size, not the configuration's
    assert data
    assert torch.isfinite(cli.trainer.callback_metrics["test/action_error"])


def test_command_line_options_override_the_checkpoint(train: Callable[..., Path], quick: list[str]) -> None:
    run_options = ["bc_rnn_square_low_dim.yaml", "--trainer.logger.name=overrides"]
    trained = train(*run_options, *SMALL, "--model.policy.min_std=0.01")
    test = ["test", f"--config={run_options[0]}", *quick, run_options[1], "--rollout.env=null"]
    for checkpoint in (trained, "last"):
        policy = run([*test, f"--ckpt_path={checkpoint}", "--model.policy.min_std", "0.25"]).model.policy
        assert (policy.min_std, policy.mean.in_features) == (0.25, 8)


def test_a_run_resumes_with_another_learning_rate(train: Callable[..., Path]) -> None:
    options = ["bc_rnn_square_low_dim.yaml", *SMALL, "--model.optimizer.weight_decay=0.1"]
    half = train(*options, "--trainer.max_steps=2", "--model.optimizer.lr=1e-3", "--model.lr_scheduler.T_max=2")
    resume = ["--model.optimizer.lr=4e-4", "--model.lr_scheduler.T_max=8", f"--ckpt_path={half}"]
    content = torch.load(train(*options, "--trainer.max_steps=4", *resume), weights_only=True)
    (state,) = content["optimizer_states"]
    (group,) = state["param_groups"]
    assert group["lr"] == pytest.approx(2e-4), "half way down the cosine from 4e-4"
    assert (group["initial_lr"], group["weight_decay"]) == (4e-4, 0.1)
    assert {int(moments["step"]) for moments in state["state"].values()} == {4}, "the moments must be kept"
    assert content["lr_schedulers"][0]["T_max"] == 8


def test_the_last_checkpoint_is_found_in_any_folder_of_its_run(
    train: Callable[..., Path], quick: list[str], tmp_path: Path
) -> None:
    config = "bc_rnn_square_low_dim.yaml"
    test = ["test", f"--config={config}", *quick, "--rollout.env=null", "--ckpt_path=last"]
    for min_std, where in ((0.1, "--trainer.logger.version=mine"), (0.2, f"--checkpoint.dirpath={tmp_path}/elsewhere")):
        options = ["--trainer.logger.name=found", where]
        train(config, *SMALL, *options, f"--model.policy.min_std={min_std}")
        assert run([*test, options[0], *(options[1:] if "dirpath" in where else ())]).model.policy.min_std == min_std
    with pytest.raises(
        ConfigurationError, match=r"--ckpt_path last needs a logger, .* got none: set --ckpt_path to a file"
    ):
        run([*test, "--trainer.logger=false"])


def test_a_missing_checkpoint_is_named(quick: list[str]) -> None:
    with pytest.raises(CheckpointError, match=r"there is no checkpoint LAST\.ckpt"):
        run(["test", "--config=il_square_low_dim.yaml", *quick, "--ckpt_path=LAST.ckpt"])


def test_a_class_that_a_checkpoint_names_only_by_its_import_path_is_shown(
    low_dim_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(low_dim_base, weights_only=True)
    content["hyper_parameters"]["policy"]["init_args"]["encoder"] = "stranger.Encoder"
    torch.save(content, tmp_path / "theirs.ckpt")
    main(["checkpoint", "show", str(tmp_path / "theirs.ckpt")])
    assert "stranger.Encoder" in capsys.readouterr().out.split("builds ")[1]


def test_the_standard_deviations_of_the_actions_are_in_the_checkpoint(
    train: Callable[..., Path], square: Path, low_dim_base: Path
) -> None:
    path = train("il_square_low_dim.yaml", f"--model.base_policy.checkpoint={low_dim_base}")
    data = RobomimicDataModule(str(square), list(SQUARE_OBS), action_dim=7, horizon=5, validation_fraction=0.34)
    loaded = DiffTORIIL.load_from_checkpoint(path, weights_only=True)
    assert torch.equal(loaded.action_scale, data.statistics()["actions"].std)
