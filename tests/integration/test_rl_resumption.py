"""A resumed run of reinforcement learning equals an uninterrupted one, wherever it was stopped."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import DataError
from difftori_pl import load_policy
from difftori_pl.errors import CheckpointError
from difftori_pl.trajopt import compilation
from tests.rl_runs import (
    CONFIG,
    EXECUTED,
    Fit,
    assert_same,
    everything,
    fit,
    fit_in,
    in_process,
    last_checkpoint,
    step_in_process,
)

__all__ = ["fit", "in_process"]

ROOT = Path(__file__).parents[2]


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("options", [[], EXECUTED], ids=["td_mpc", "executed_actions"])
@pytest.mark.parametrize(
    ("end", "n_updates"),
    [("--trainer.max_steps=33", 33), ("--collect.n_env_steps=72", 36)],
    ids=["during an episode's updates", "after an episode's updates"],
)
def test_a_resumed_run_equals_an_uninterrupted_one(end: str, n_updates: int, options: list[str], fit: Fit) -> None:
    whole = everything(fit(*options, folder="whole"))
    first = fit(*options, end, folder="parts")
    assert int(first.model.env_step) == 2 * n_updates
    assert torch.load(last_checkpoint(first), weights_only=True)["global_step"] == n_updates
    second = fit(*options, "--ckpt_path=last", folder="parts")
    assert int(second.model.env_step) == 120
    assert_same(whole, everything(second))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("first", [True, False], ids=["compiled first", "eager first"])
def test_compiled_and_eager_runs_resume_each_other(first: bool, fit: Fit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compilation, "BACKEND", "aot_eager")  # compiling kernels would take minutes
    whole = everything(fit(folder="whole"))
    fit(f"--model.compiled={first}", "--collect.n_env_steps=72", folder="parts")
    resumed = fit(f"--model.compiled={not first}", "--ckpt_path=last", folder="parts")
    torch.testing.assert_close(everything(resumed)["networks"], whole["networks"], rtol=1e-5, atol=1e-6)
    assert load_policy(last_checkpoint(resumed)) is not None


@pytest.fixture(scope="module")
def long_run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the final state of an uninterrupted run of 240 steps."""
    with pytest.MonkeyPatch.context() as patch:
        step_in_process(patch)
        return everything(fit_in(tmp_path_factory.mktemp("whole"), "--collect.n_env_steps=240"))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize(
    "kind",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
    ],
)
def test_a_stopped_run_resumes(kind: signal.Signals, fit: Fit, tmp_path: Path, long_run: dict[str, Any]) -> None:
    options = ["--collect.n_env_steps=240", "--checkpoint.every_n_train_steps=1"]
    command = [sys.executable, "-m", "difftori_pl", "fit", f"--config={CONFIG}", *options]
    command += [f"--trainer.logger.save_dir={tmp_path / 'parts'}"]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    # A checkpoint is written at every update, so the signal probably arrives during a write.
    while not (found := list((tmp_path / "parts").glob("point/*/checkpoints/last.ckpt"))):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    time.sleep(0.3)
    process.send_signal(kind)
    process.communicate(timeout=60)
    # Lightning handles SIGTERM and exits with code 0, so the exit code is not checked.
    reached = torch.load(found[0], weights_only=True)["state_dict"]["env_step"]
    assert reached < 240, "the run had ended before the signal came"
    again = fit(*options, "--ckpt_path=last", folder="parts")
    assert int(again.model.env_step) == 240
    assert_same(long_run, everything(again))


@pytest.mark.usefixtures("in_process")
def test_a_run_resumes_despite_a_second_checkpoint_callback(fit: Fit, tmp_path: Path) -> None:
    own = ["--trainer.callbacks+=ModelCheckpoint", f"--trainer.callbacks.dirpath={tmp_path / 'own'}"]
    whole = everything(fit(*own, folder="whole"))
    fit(*own, "--trainer.max_steps=30", folder="parts")
    assert_same(whole, everything(fit(*own, "--ckpt_path=last", folder="parts")))


@pytest.mark.usefixtures("in_process")
def test_a_run_resumes_with_another_learning_rate(fit: Fit) -> None:
    fit("--trainer.max_steps=10", "--model.optimizer=Adam", "--model.optimizer.lr=1e-3")
    again = fit("--ckpt_path=last", "--trainer.max_steps=12", "--model.optimizer.lr=1e-5")
    assert [group["lr"] for optimizer in again.trainer.optimizers for group in optimizer.param_groups] == [1e-5, 1e-5]


@pytest.mark.usefixtures("in_process")
def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(
    fit: Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        if list(tmp_path.rglob("last.ckpt")):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises((CheckpointError, DataError), match="No space left on device"):
        fit()
    monkeypatch.undo()
    assert int(fit("--ckpt_path=last").model.env_step) == 120
