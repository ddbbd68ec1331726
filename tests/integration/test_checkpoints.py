"""What was trained comes back: alone, to the bit, and to go on from."""

from collections.abc import Callable
from pathlib import Path

import torch

from datamodules import RobomimicDataModule
from difftori_pl import BehaviorCloning, DiffTORIIL, from_checkpoint
from difftori_pl.cli import run
from difftori_pl.models.policy import describe
from tests.conftest import SMALL, SQUARE_OBS


def batch_of(path: Path) -> dict[str, torch.Tensor]:
    data = RobomimicDataModule(str(path), list(SQUARE_OBS), action_dim=7, horizon=5, validation_fraction=0.0)
    data.setup("fit")
    return next(iter(data.train_dataloader()))  # type: ignore[return-value]


def actions(module: DiffTORIIL | BehaviorCloning, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    torch.manual_seed(3)
    return module.eval().predict_step(batch, 0)  # type: ignore[arg-type]


def test_a_checkpoint_loads_alone_and_acts_the_same(
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


def test_a_rival_on_a_base_policy_needs_no_other_file_and_is_a_base_policy_itself(
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
    assert describe(module) == "Residual + BCRNNGMM"
    refined = train("il_square_low_dim.yaml", f"--model.base_policy.checkpoint={path}", "--model.encoder.hidden_dim=8")
    path.unlink()
    loaded = DiffTORIIL.load_from_checkpoint(refined, weights_only=True)
    assert describe(loaded) == "DiffTORIIL + Residual + BCRNNGMM"
    assert torch.isfinite(actions(loaded, batch)).all()


def test_base_policies_load_alone(low_dim_base: Path, square: Path) -> None:
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


def test_words_on_the_command_line_come_before_the_checkpoint(train: Callable[..., Path], quick: list[str]) -> None:
    run_options = ["bc_rnn_square_low_dim.yaml", "--trainer.logger.name=words"]
    trained = train(*run_options, *SMALL, "--model.policy.min_std=0.01")
    test = ["test", f"--config={run_options[0]}", *quick, run_options[1], "--rollout.env=null"]
    for checkpoint in (trained, "last"):
        policy = run([*test, f"--ckpt_path={checkpoint}", "--model.policy.min_std", "0.25"]).model.policy
        assert (policy.min_std, policy.mean.in_features) == (0.25, 8)


def test_the_spread_of_the_actions_is_in_the_checkpoint(
    train: Callable[..., Path], square: Path, low_dim_base: Path
) -> None:
    path = train("il_square_low_dim.yaml", f"--model.base_policy.checkpoint={low_dim_base}")
    data = RobomimicDataModule(str(square), list(SQUARE_OBS), action_dim=7, horizon=5, validation_fraction=0.34)
    loaded = DiffTORIIL.load_from_checkpoint(path, weights_only=True)
    assert torch.equal(loaded.action_scale, data.statistics()["actions"].std)
