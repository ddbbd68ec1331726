"""Damaged, foreign and malicious checkpoints end in a clear error; a failed write keeps earlier checkpoints."""

import errno
import os
import pickle
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules.replay.step_log import StepLog
from difftori_pl import AtomicCheckpointIO, load_policy
from difftori_pl.checkpoints.reading import SCHEMA, read_checkpoint
from difftori_pl.cli import main, run
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.errors import CheckpointError, DiffTORIError, DivergenceError
from tests.checkpoints.write import FOLDER
from tests.conftest import SMALL
from tests.faults.mutations import ROUNDS, mutate, outcomes
from tests.rl_runs import CONFIG

CHECKPOINT = sorted(FOLDER.glob("*/bc_rnn.ckpt"))[-1]


def contents(path: Path) -> Any:
    return _plain(read_checkpoint(str(path), ""))


def _plain(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.numpy()
    return {key: _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def damage(path: Path, seed: int) -> None:
    path.write_bytes(mutate(path.read_bytes(), seed))


def test_damaged_checkpoints_are_refused_or_read_correctly(tmp_path: Path) -> None:
    found = outcomes(contents, CHECKPOINT, damage, range(ROUNDS or 60), tmp_path, (CheckpointError,))
    print(dict(found))
    assert set(found) <= {"error", "same"}, found
    assert found["error"] > found["same"]


class Bomb:
    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> Any:
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "loops"])
def test_code_in_a_checkpoint_is_not_executed(place: str, tmp_path: Path, quick: list[str]) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    content[place]["bomb"] = Bomb(tmp_path / "ran")
    path = tmp_path / "bomb.ckpt"
    torch.save(content, path)
    for read in (
        partial(load_policy, path),
        partial(main, ["checkpoint", "show", str(path)]),
        partial(run, ["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, f"--ckpt_path={path}"]),
        partial(AtomicCheckpointIO().load_checkpoint, path, weights_only=False),
    ):
        with pytest.raises((DiffTORIError, SystemExit)):
            read()
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Bomb(tmp_path / "ran")))
    assert (tmp_path / "ran").exists(), "unpickling the bomb must execute its code"


def test_a_checkpoint_of_a_later_version_is_refused(tmp_path: Path) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    content["difftori"] |= {"schema": SCHEMA + 1, "package": "9.0.0"}
    torch.save(content, tmp_path / "later.ckpt")
    with pytest.raises(CheckpointError, match=r"update difftori-pl to 9\.0\.0"):
        load_policy(tmp_path / "later.ckpt")
    content["difftori"]["schema"] = "new"
    torch.save(content, tmp_path / "strange.ckpt")
    with pytest.raises(CheckpointError, match=r"schema of .* as a number, got 'new'"):
        load_policy(tmp_path / "strange.ckpt")


def test_an_unknown_argument_in_a_checkpoint_is_named(tmp_path: Path) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    content["hyper_parameters"]["policy"]["init_args"]["forgotten"] = 1
    torch.save(content, tmp_path / "old.ckpt")
    with pytest.raises(CheckpointError, match=r"difftori-pl \d\S* cannot build .*old\.ckpt describes: .*forgotten"):
        load_policy(tmp_path / "old.ckpt")


def test_a_checkpoint_from_before_the_first_release_loads(tmp_path: Path) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    del content["difftori"]
    torch.save(content, tmp_path / "early.ckpt")
    assert load_policy(tmp_path / "early.ckpt").obs_specs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "Lift"}, "the task NutAssemblySquare, got one of Lift"),
        ({"action_dim": 6}, "action_dim 7, as in this model, got 6"),
        ({"obs_shapes": {"other": [23]}}, "expected a checkpoint with observations"),
    ],
)
def test_a_checkpoint_of_another_task_or_model_is_not_resumed(
    change: dict[str, Any], message: str, tmp_path: Path, quick: list[str]
) -> None:
    content = torch.load(CHECKPOINT, weights_only=True)
    content["difftori"] |= change
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=message):
        run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, f"--ckpt_path={tmp_path / 'other.ckpt'}"])


def test_other_data_lead_to_a_warning(tmp_path: Path, quick: list[str], caplog: pytest.LogCaptureFixture) -> None:
    options = [*quick, *SMALL, f"--ckpt_path={CHECKPOINT}", "--trainer.max_steps=3"]
    run(["fit", "--config=bc_rnn_square_low_dim.yaml", *options])
    assert "square.hdf5 differs from the data that the checkpoint was trained on" in caplog.text


def killed_after(seconds: float, write: Callable[[], Iterator[int]]) -> list[int]:
    """Kill a writing process `seconds` after its first write, and return the numbers that it reported as written."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        torch.set_num_threads(1)  # the child would wait for the parent's threads, which fork does not copy
        try:
            for done in write():
                os.write(writer, f"{done}\n".encode())
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as reports:
        first = int(reports.readline())
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return [first, *map(int, reports.read().splitlines())]


def test_a_kill_during_a_write_loses_no_checkpoint(tmp_path: Path) -> None:
    path, step = tmp_path / "last.ckpt", 0

    def write() -> Iterator[int]:
        for number in count(step + 1):
            content = {"step": number, "weights": torch.full((200_000,), float(number))}
            AtomicCheckpointIO().save_checkpoint(content, path)
            yield number

    random, n_parts = np.random.default_rng(0), 0
    for _ in range(ROUNDS or 20):
        reported = killed_after(random.uniform(0, 0.05), write)
        found = read_checkpoint(str(path), "")
        assert found["step"] >= max(reported) > step, "a checkpoint that was saved is gone"
        assert (found["weights"] == found["step"]).all()
        step = found["step"]
        n_parts += len(list(tmp_path.glob(".last.ckpt.part")))
    assert n_parts > 0, "some kills must interrupt a write"
    assert len(list(tmp_path.iterdir())) <= 2, "only the incomplete temporary file may remain"


def test_a_kill_during_a_write_of_the_buffer_loses_no_steps(tmp_path: Path) -> None:
    path, folder = tmp_path / "last.ckpt", tmp_path / "replay"
    dtype = np.dtype([("number", "i8"), ("values", "f4", (16,))])

    def load() -> tuple[int, StepLog]:
        content = read_checkpoint(str(path), "")
        return content["end"], StepLog.load(content["log"], folder, 20_000, 10**9)

    def write() -> Iterator[int]:
        log = load()[1] if path.exists() else StepLog(dtype, 20_000, 10**9)
        while True:
            steps = np.empty(500, dtype)
            steps["number"] = np.arange(log.end, log.end + 500)
            steps["values"] = steps["number"][:, None]
            log.append(steps)
            AtomicCheckpointIO().save_checkpoint({"end": log.end, "log": dict(log.save(folder))}, path)
            yield log.end

    random, end = np.random.default_rng(1), 0
    for _ in range(ROUNDS or 20):
        reported = killed_after(random.uniform(0, 0.05), write)
        found, log = load()
        assert found >= max(reported) > end, "steps that were saved are gone"
        end = found
        steps = log.read(np.arange(log.start, log.end))
        assert (steps["number"] == np.arange(log.start, log.end)).all()
        assert (steps["values"] == steps["number"][:, None].astype(np.float32)).all()


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a file system of 1 MiB and return its folder."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system requires root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_the_last_checkpoint(full_disk: Path) -> None:
    plugin, path = AtomicCheckpointIO(), full_disk / "last.ckpt"
    plugin.save_checkpoint({"step": 1, "weights": torch.zeros(100_000)}, path)
    with pytest.raises(CheckpointError, match=r"No space left on device.*intact"):
        plugin.save_checkpoint({"step": 2, "weights": torch.zeros(200_000)}, path)
    assert plugin.load_checkpoint(path)["step"] == 1
    assert [part.name for part in full_disk.iterdir()] == ["last.ckpt"]


def test_a_read_only_folder_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(CheckpointError, match=r"Read-only file system.*choose another folder"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "runs" / "last.ckpt")


@pytest.mark.parametrize("module", ["imitation", "reinforcement"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_non_finite_weights_replace_no_checkpoint(
    module: str, value: float, quick: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difftori_pl.callbacks.collect.EnvPool", LocalPool)
    imitation = ["--config=bc_rnn_square_low_dim.yaml", *SMALL, *quick, "--trainer.limit_val_batches=0"]
    options = imitation if module == "imitation" else [f"--config={CONFIG}", quick[-1]]
    trainer = run(["fit", *options, "--trainer.max_steps=2"]).trainer
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    before = path.read_bytes()
    next(trainer.lightning_module.parameters()).data.view(-1)[0] = value
    with pytest.raises(DivergenceError, match=r"weights of '.*' are not finite.*resume from the last checkpoint"):
        trainer.save_checkpoint(path)
    assert path.read_bytes() == before


def test_a_read_only_run_folder_leads_to_a_message_of_one_line(quick: list[str], full_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(full_disk)], check=True)
    options = [f"--trainer.logger.save_dir={full_disk}", "--trainer.max_steps=1"]
    with pytest.raises(SystemExit, match=r"error: .*Read-only file system"):
        main(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL, *options])
