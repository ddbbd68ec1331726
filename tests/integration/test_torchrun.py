"""Runs that torchrun starts: again after one of their processes was killed, and until SIGTERM."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from tests.torchrun import ROOT, TORCHRUN

pytestmark = pytest.mark.slow


def command(quick: list[str], folder: Path, n_steps: int) -> list[str]:
    return [
        "-m", "difftori_pl", "fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL,
        f"--trainer.logger.save_dir={folder}", "--trainer.logger.name=run", f"--trainer.max_steps={n_steps}",
        "--trainer.max_epochs=-1", "--trainer.strategy=ddp", "--checkpoint.every_n_train_steps=20",
        "--trainer.limit_val_batches=0", "--rollout.env=null", "--ckpt_path=last",
    ]  # fmt: skip


def last_checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("run/version_*/checkpoints/last.ckpt"))


def signalled(number: int, quick: list[str], folder: Path, n_steps: int) -> str:
    """Run in two processes, of which one gets a signal once there is a checkpoint; give what was written to stderr."""
    launcher = [*TORCHRUN, "--standalone", "--nproc_per_node=2", "--max-restarts=1", "--monitor-interval=0.1"]
    process = subprocess.Popen(
        [*launcher, *command(quick, folder, n_steps), "--trainer.devices=2"],
        # Otherwise torch 2.13 hands the addresses of the dead processes to those that it starts anew.
        cwd=ROOT, env=os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        while not last_checkpoints(folder):
            assert process.poll() is None, process.communicate()
            time.sleep(0.02)
        threads = Path(f"/proc/{process.pid}/task").glob("*/children")
        children = [pid for children in threads for pid in children.read_text().split()]
        workers = sorted(int(pid) for pid in children if "difftori_pl" in Path(f"/proc/{pid}/cmdline").read_text())
        assert len(workers) == 2
        os.kill(workers[1], number)
        _, said = process.communicate(timeout=400)
    finally:
        process.terminate()
    assert process.returncode == 0, said[-3000:]
    return said


def test_sigterm_to_one_process_stops_both_with_a_checkpoint(quick: list[str], tmp_path: Path) -> None:
    said = signalled(signal.SIGTERM, quick, tmp_path, n_steps=100_000)
    assert "SIGTERMException was raised" in said
    (checkpoint,) = last_checkpoints(tmp_path)
    assert 0 < torch.load(checkpoint, weights_only=True)["global_step"] < 100_000


def test_after_a_process_was_killed_the_run_goes_on(quick: list[str], tmp_path: Path) -> None:
    n_steps = 600
    said = signalled(signal.SIGKILL, quick, tmp_path, n_steps)
    first, second = last_checkpoints(tmp_path)
    assert 0 < torch.load(first, weights_only=True)["global_step"] < n_steps
    assert torch.load(second, weights_only=True)["global_step"] == n_steps
    assert f"Restoring states from the checkpoint path at {first}" in said
