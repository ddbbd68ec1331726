"""Every shipped configuration and fragment through the command line."""

from pathlib import Path

import pytest
import torch
import yaml

from difftori_pl.cli import SHIPPED_CONFIGS, run
from tests.conftest import ACTION_DIMS, task_of

CONFIGS = sorted(path.name for path in SHIPPED_CONFIGS.glob("*.yaml") if any(task in path.name for task in ACTION_DIMS))
FRAGMENTS = {
    folder: sorted(f"{folder}/{path.name}" for path in (SHIPPED_CONFIGS / folder).glob("*.yaml"))
    for folder in ("encoder", "solver", "backward_mode", "base_policy", "sampler")
}


SMALL = {
    "bc_rnn": ["--model.policy.hidden_dim=8"],
    "diffusion": ["--model.policy.dims=[8, 16]"],
    "ibc": ["--model.policy.n_samples=8", "--model.policy.n_counter_examples=8"],
}
"""Options that make some networks small enough to train quickly."""


def base_options(config: str, low_dim_base: Path, image_base: Path) -> list[str]:
    option = {"il": "--model.base_policy", "residual": "--model.policy.base"}.get(config.split("_")[0])
    if option is None:
        return []
    if task_of(config) == "square" and "diffusion" not in config:
        return [f"{option}.checkpoint={low_dim_base if 'low_dim' in config else image_base}"]
    action_dim = ACTION_DIMS[task_of(config)]
    size = action_dim // 7 * 10 if "absolute" in config else action_dim  # with rotations in six numbers
    return [f"{option}=Zeros", f"{option}.action_dim={size}"]


@pytest.mark.parametrize("config", CONFIGS)
def test_configuration_trains(
    config: str, quick: list[str], files: dict[str, Path], low_dim_base: Path, image_base: Path
) -> None:
    kind = "_absolute" if "absolute" in config and "square" not in config else ""
    path = files[task_of(config) + kind]
    options = [f"--data.path={path}", *base_options(config, low_dim_base, image_base)]
    if task_of(config) != "square" and "diffusion" not in config:
        options.append("--data.horizon=3")
    options += [option for method, small in SMALL.items() if config.startswith(method) for option in small]
    trainer = run(["fit", f"--config={config}", *quick, *options, "--trainer.fast_dev_run=1"]).trainer
    assert trainer.global_step == 1
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert torch.isfinite(trainer.callback_metrics["val/action_error"])


@pytest.mark.parametrize("sampler", FRAGMENTS["sampler"])
def test_sampler_swaps_in(sampler: str, quick: list[str]) -> None:
    options = [*SMALL["ibc"], f"--model.policy.sampler={sampler}", "--model.policy.gradient_penalty=1.0"]
    run(["fit", "--config=ibc_square_low_dim.yaml", *quick, *options, "--trainer.fast_dev_run=1"])


USED = "".join(path.read_text() for path in SHIPPED_CONFIGS.glob("*.yaml"))
"""Text of all configurations; fragments that it names are tested with these configurations."""
UNUSED = [
    encoder for encoder in FRAGMENTS["encoder"] if encoder not in USED and any(task in encoder for task in ACTION_DIMS)
]


@pytest.mark.parametrize("encoder", UNUSED)
def test_encoder_swaps_in(
    encoder: str, quick: list[str], files: dict[str, Path], low_dim_base: Path, image_base: Path
) -> None:
    config = f"il_{task_of(encoder)}{'_low_dim' if 'state' in encoder else ''}.yaml"
    options = [f"--data.path={files[task_of(encoder)]}", *base_options(config, low_dim_base, image_base)]
    run(["fit", f"--config={config}", *quick, *options, f"--model.encoder={encoder}", "--trainer.fast_dev_run=1"])


DETACHED = "backward_mode/detached.yaml"
MODE_OF = {"lbfgs": "backward_mode/implicit.yaml", "newton_cg": "backward_mode/implicit.yaml", "mppi": DETACHED}
"""Backward mode for solvers whose steps cannot be differentiated."""
SOLVER_OF = {"implicit": "solver/lbfgs.yaml", "direct_loss": "solver/lbfgs.yaml", "library": "solver/theseus.yaml"}
"""Solver for backward modes that need a converged solution or a library solver."""


@pytest.mark.parametrize("solver", FRAGMENTS["solver"])
def test_solver_swaps_in(solver: str, quick: list[str], low_dim_base: Path) -> None:
    if "theseus" in solver:
        pytest.importorskip("theseus")
    swap = [f"--model.trajopt.solver={solver}"]
    swap += [f"--model.trajopt.backward_mode={mode}" for part, mode in MODE_OF.items() if part in solver]
    _train_with(swap, quick, low_dim_base)


@pytest.mark.parametrize("backward_mode", FRAGMENTS["backward_mode"])
def test_backward_mode_swaps_in(backward_mode: str, quick: list[str], low_dim_base: Path) -> None:
    swap = [f"--model.trajopt.backward_mode={backward_mode}"]
    swap += [f"--model.trajopt.solver={solver}" for part, solver in SOLVER_OF.items() if part in backward_mode]
    _train_with(swap, quick, low_dim_base)


def _train_with(swap: list[str], quick: list[str], low_dim_base: Path) -> None:
    """Take two steps from the initialisation, where the score's last layer is zero, and check the metrics."""
    options = [f"--model.base_policy.checkpoint={low_dim_base}", "--trainer.max_steps=2", *swap]
    cli = run(["fit", "--config=il_square_low_dim.yaml", *quick, *options])
    metrics = cli.trainer.callback_metrics
    assert cli.trainer.global_step == 2
    assert metrics["solver/failed_fraction"] == 0
    assert metrics["solver/steps"] > 0
    for name in ("solver/value_gain", "train/loss"):
        assert torch.isfinite(metrics[name]), name
    assert all(torch.isfinite(parameter).all() for parameter in cli.model.parameters())


# cross_fitted.yaml needs trained policies, see test_cross_fitted.py.
@pytest.mark.parametrize("base_policy", [name for name in FRAGMENTS["base_policy"] if "cross_fitted" not in name])
def test_base_policy_swaps_in(base_policy: str, quick: list[str]) -> None:
    option = f"--model.base_policy={base_policy}"
    run(["fit", "--config=il_square_low_dim.yaml", *quick, option, "--trainer.fast_dev_run=1"])


def test_a_longer_horizon_uses_the_dynamics(quick: list[str], low_dim_base: Path) -> None:
    options = ["--model.horizon=3", "--model.dynamics=LatentDynamics"]
    base = f"--model.base_policy.checkpoint={low_dim_base}"
    cli = run(["fit", "--config=il_square_low_dim.yaml", *quick, base, *options, "--trainer.fast_dev_run=1"])
    assert cli.trainer.global_step == 1
    assert cli.model.dynamics is not None


def test_plain_bc_trains(quick: list[str]) -> None:
    policy = [
        "--model.policy=BC",
        "--model.policy.encoder=encoder/square_state_mlp.yaml",
        "--model.policy.action_dim=7",
    ]
    run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *policy, "--trainer.fast_dev_run=1"])


def test_interpolations_resolve_after_overrides(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run(["fit", "--config=bc_rnn_square_low_dim.yaml", "--data.horizon=7", "--print_config"])
    assert end.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["init_args"]["policy"]["init_args"]["restart_after"] == 7


def test_a_configuration_in_the_current_folder_takes_precedence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = (SHIPPED_CONFIGS / "bc_rnn_square_low_dim.yaml").read_text()
    encoder = (SHIPPED_CONFIGS / "encoder" / "square_state.yaml").read_text()
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "square_state.yaml").write_text(encoder)
    (tmp_path / "bc_rnn_square_low_dim.yaml").write_text(f"seed_everything: 77\n{shipped}")
    with pytest.raises(SystemExit):
        run(["fit", "--config", "bc_rnn_square_low_dim.yaml", "--print_config"])
    assert yaml.safe_load(capsys.readouterr().out)["seed_everything"] == 77
