"""Runs under torchrun: on two hosts, with a restart after a process was killed, and with SIGTERM."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.conftest import SMALL
from tests.torchrun import ROOT, TORCHRUN

pytestmark = pytest.mark.slow

ADDRESSES = ["10.213.77.1", "10.213.77.2"]


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
    """Run two processes, send one a signal after the first checkpoint, and return the text on stderr."""
    launcher = [*TORCHRUN, "--standalone", "--nproc_per_node=2", "--max-restarts=1", "--monitor-interval=0.1"]
    process = subprocess.Popen(
        [*launcher, *command(quick, folder, n_steps), "--trainer.devices=2"],
        # Otherwise torch 2.13 passes the addresses of the dead processes to the restarted ones.
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
        _, stderr = process.communicate(timeout=400)
    finally:
        process.terminate()
    assert process.returncode == 0, stderr[-3000:]
    return stderr


def test_sigterm_to_one_process_stops_both_with_a_checkpoint(quick: list[str], tmp_path: Path) -> None:
    stderr = signalled(signal.SIGTERM, quick, tmp_path, n_steps=100_000)
    (checkpoint,) = last_checkpoints(tmp_path)
    step = torch.load(checkpoint, weights_only=True)["global_step"]
    assert 0 < step < 100_000
    # If the last update is a multiple of 20, its checkpoint already exists and SIGTERM saves no other.
    assert step % 20 == 0 or f"stopped after {step} updates" in stderr


def test_the_run_restarts_after_a_process_was_killed(quick: list[str], tmp_path: Path) -> None:
    n_steps = 300
    stderr = signalled(signal.SIGKILL, quick, tmp_path, n_steps)
    first, second = last_checkpoints(tmp_path)
    assert 0 < torch.load(first, weights_only=True)["global_step"] < n_steps
    assert torch.load(second, weights_only=True)["global_step"] == n_steps
    assert f"from the checkpoint at {first}" in stderr


@pytest.fixture
def hosts() -> Iterator[list[str]]:
    """Connect two network namespaces by a virtual cable and return their names."""
    names = [f"difftori{os.getpid()}{end}" for end in "ab"]
    cable = [f"dt{os.getpid() % 10**7}{end}" for end in "ab"]
    setup = [f"ip link add {cable[0]} type veth peer name {cable[1]}"]
    for name, end, address in zip(names, cable, ADDRESSES, strict=True):
        setup += [
            f"ip netns add {name}",
            f"ip link set {end} netns {name}",
            f"ip -n {name} link set {end} name cable",
            f"ip -n {name} address add {address}/24 dev cable",
            f"ip -n {name} link set cable up",
            f"ip -n {name} link set lo up",
        ]
    try:
        for line in setup:
            try:
                subprocess.run(line.split(), check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                pytest.skip(f"cannot create network namespaces: {getattr(error, 'stderr', error)}")
        yield names
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)
        subprocess.run(["ip", "link", "delete", cable[0]], check=False, capture_output=True)


def test_two_hosts_train_together(hosts: list[str], quick: list[str], tmp_path: Path) -> None:
    processes = []
    for rank, name in enumerate(hosts):
        launcher = [
            "ip", "netns", "exec", name, *TORCHRUN, "--nnodes=2", f"--node_rank={rank}", "--nproc_per_node=1",
            f"--master_addr={ADDRESSES[0]}", "--master_port=29517",
        ]  # fmt: skip
        options = ["--trainer.num_nodes=2", "--trainer.devices=1"]
        # Without it, both hosts would resolve their common host name to the same address.
        env = os.environ | {"GLOO_SOCKET_IFNAME": "cable"}
        processes.append(
            subprocess.Popen(
                [*launcher, *command(quick, tmp_path, 20), *options],
                cwd=ROOT,
                env=env,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        stderr = [process.communicate(timeout=400)[1] for process in processes]
    finally:
        for process in processes:
            process.terminate()
    assert [process.returncode for process in processes] == [0, 0], stderr
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in stderr[1]
    (checkpoint,) = last_checkpoints(tmp_path)
    assert torch.load(checkpoint, weights_only=True)["global_step"] == 20
