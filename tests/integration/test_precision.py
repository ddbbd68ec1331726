"""Mixed precision through the command line: training stays finite and updates the weights; float16 scales gradients.

Lightning accepts float16 only on GPUs; its plugin for GPUs also runs on a CPU.
"""

from pathlib import Path

import pytest
import torch

from difftori_pl.cli import run
from tests.rl_runs import CONFIG, EXECUTED, REPLAYED, in_process  # noqa: F401

PRECISIONS = {
    "bfloat16": ["--trainer.precision=bf16-mixed"],
    "float16": [
        "--trainer.plugins=lightning.pytorch.plugins.MixedPrecision",
        "--trainer.plugins.precision=16-mixed",
        "--trainer.plugins.device=cpu",
    ],
}
N_STEPS = 40


def check(arguments: list[str]) -> None:
    trainer = run(["fit", *arguments, f"--trainer.max_steps={N_STEPS}"]).trainer
    assert torch.isfinite(trainer.callback_metrics["train/loss"])
    assert all(torch.isfinite(parameter).all() for parameter in trainer.lightning_module.parameters())
    for optimizer in trainer.optimizers:
        taken = [int(state["step"]) for state in optimizer.state_dict()["state"].values()]
        assert min(taken) > N_STEPS / 2, "float16 skips some of the first steps while its gradient scale adapts"


# Without LSTMs, which CPUs do not support in float16.
IMITATION = {
    "diffusion": ["--config=diffusion_square_low_dim.yaml", "--model.policy.dims=[8, 16]"],
    "il": [
        *("--config=il_square_low_dim.yaml", "--model.base_policy=Zeros", "--model.base_policy.action_dim=7"),
        *("--model.encoder=StateEncoder", "--model.encoder.latent_dim=8"),
        "--model.encoder.obs_dims={object: 14, robot0_eef_pos: 3, robot0_eef_quat: 4, robot0_gripper_qpos: 2}",
    ],
}


@pytest.mark.filterwarnings(
    "ignore:Detected call of .lr_scheduler.step"
)  # the float16 gradient scaler skips the first update
@pytest.mark.parametrize(("name", "precision"), [("diffusion", "bfloat16"), ("il", "bfloat16"), ("il", "float16")])
def test_imitation_trains(name: str, precision: str, quick: list[str]) -> None:
    check([*IMITATION[name], *quick, *PRECISIONS[precision]])


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    ("options", "precision"),
    [(REPLAYED, "float16"), (EXECUTED, "bfloat16")],
    ids=["replayed_states", "executed_actions"],
)
def test_reinforcement_learning_trains(options: list[str], precision: str, tmp_path: Path) -> None:
    check([f"--config={CONFIG}", *options, *PRECISIONS[precision], f"--trainer.logger.save_dir={tmp_path}"])
