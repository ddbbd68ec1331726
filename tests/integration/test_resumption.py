"""A resumed run ends with the same bits as an uninterrupted one on the CPU, wherever it was stopped."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from difftori_pl.cli import run
from difftori_pl.errors import ConfigurationError
from tests.conftest import SMALL, SQUARE_OBS
from tests.data import write_robomimic
from tests.torchrun import torchrun

ROOT = Path(__file__).parents[2]

SMALL_IL = ["--model.encoder.hidden_dim=8", "--model.prior_temperature=1.0"]
MODULES = {
    "bc_rnn": ["--config=bc_rnn_square_low_dim.yaml", *SMALL],
    "il": [
        "--config=il_square_low_dim.yaml", *SMALL_IL, "--model.horizon=3", "--model.dynamics=LatentDynamics",
    ],
    "residual": ["--config=residual_square_low_dim.yaml", "--model.policy.encoder.hidden_dim=8"],
    "ibc": [
        "--config=ibc_square_low_dim.yaml", "--model.policy.n_counter_examples=8", "--model.policy.n_samples=8",
    ],
    "diffusion": ["--config=diffusion_square_low_dim.yaml", "--model.policy.dims=[16,32]"],
}  # fmt: skip
BASES = {"il": "base_policy", "residual": "policy.base"}


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_robomimic(tmp_path_factory.mktemp("data") / "demos.hdf5", [18, 20, 19, 11], SQUARE_OBS)


def options_of(name: str, demos: Path, low_dim_base: Path, folder: Path) -> list[str]:
    base = [f"--model.{BASES[name]}.checkpoint={low_dim_base}"] if name in BASES else []
    return [
        *MODULES[name], *base, f"--data.path={demos}", "--data.batch_size=8", "--data.validation_fraction=0.25",
        "--trainer.accelerator=cpu", f"--trainer.logger.save_dir={folder}", "--trainer.enable_progress_bar=false",
        "--trainer.enable_model_summary=false", "--rollout.env=null", "--trainer.max_epochs=-1",
        "--checkpoint.monitor=null",
        "--trainer.logger.name=run", "--seed_everything=3",
        "--trainer.log_every_n_steps=1",
    ]  # fmt: skip


def ends(n_updates: int, n_epochs: int) -> list[str]:
    return [f"--trainer.max_steps={n_updates}", f"--trainer.max_epochs={n_epochs}"]


def everything(path: Path) -> dict[str, Any]:
    content = torch.load(path, weights_only=True)
    names = "state_dict", "current_model_state", "optimizer_states", "lr_schedulers", "global_step", "epoch"
    return {name: content[name] for name in names if name in content}


def assert_same(a: Any, b: Any, where: str = "") -> None:
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            assert_same(one, other, f"{where}/{number}")
    else:
        assert a == b, where


def last(folder: Path) -> Path:
    return max(folder.glob("run/version_*/checkpoints/last.ckpt"), key=lambda path: path.stat().st_mtime)


@pytest.fixture(scope="module")
def whole_run(demos: Path, low_dim_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return the end of an uninterrupted run of BC-RNN; each length runs once."""

    @cache
    def end_of(*end: int) -> Any:
        folder = tmp_path_factory.mktemp("whole")
        run(["fit", *options_of("bc_rnn", demos, low_dim_base, folder), *ends(*end)])
        return everything(last(folder))

    return end_of


SLOW = {"residual", "ibc"}
# An epoch has 7 batches: 9 updates end in the middle of the second one, 4 in the first.
CASES = [
    pytest.param(name, *numbers, marks=[pytest.mark.slow] if name in SLOW else [])
    for name in MODULES
    for numbers in ([(4, 0), (9, 2)] if name == "diffusion" else [(9, 2)] if name == "bc_rnn" else [(4, 2)])
]


@pytest.mark.parametrize(("name", "n_updates", "n_workers"), CASES)
def test_resuming_in_the_middle_of_an_epoch(
    name: str, n_updates: int, n_workers: int, demos: Path, low_dim_base: Path, tmp_path: Path
) -> None:
    options = [*options_of(name, demos, low_dim_base, tmp_path / "whole"), f"--data.n_workers={n_workers}"]
    end = f"--trainer.max_steps={2 * n_updates}"
    save = f"--checkpoint.every_n_train_steps={n_updates}"
    whole = run(["fit", *options, save, "--checkpoint.save_top_k=-1", end])
    (middle,) = (tmp_path / "whole").glob(f"run/version_0/checkpoints/*step={n_updates}.ckpt")
    progress = torch.load(middle, weights_only=True)["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]
    assert progress["ready"] % whole.trainer.num_training_batches > 0, "the checkpoint must be within an epoch"
    options[options.index(f"--trainer.logger.save_dir={tmp_path / 'whole'}")] = f"--trainer.logger.save_dir={tmp_path}"
    run(["fit", *options, save, end, f"--ckpt_path={middle}"])
    whole_end, resumed_end = everything(last(tmp_path / "whole")), everything(last(tmp_path))
    assert whole_end["global_step"] == resumed_end["global_step"]
    assert_same(whole_end, resumed_end)
    assert ("current_model_state" in whole_end) == (name == "diffusion"), (
        "the average of the weights must be compared too"
    )


class SigtermAt(Callback):
    """Send SIGTERM to the last process when a hook is called after a number of updates."""

    def __init__(self, hook: str, n_updates: int) -> None:
        setattr(self, hook, partial(self._send, n_updates))

    @staticmethod
    def _send(n_updates: int, trainer: Trainer, *_: Any, **__: Any) -> None:
        if trainer.global_step == n_updates and trainer.global_rank == trainer.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)


def sigterm_at(hook: str, n_updates: int) -> str:
    at = {"class_path": f"{__name__}.SigtermAt", "init_args": {"hook": hook, "n_updates": n_updates}}
    return f"--trainer.callbacks=[{json.dumps(at)}]"


@pytest.mark.parametrize("end", [(17, -1), (-1, 3)], ids=["steps", "epochs"])
@pytest.mark.parametrize(
    ("hook", "n_updates"),
    [("on_train_batch_end", 6), ("on_train_epoch_start", 7)]
    + [(f"on_{name}", 7) for name in ("train_batch_end", "validation_start", "validation_batch_end")]
    + [("on_validation_end", 7), ("on_train_epoch_end", 7), ("on_validation_end", 14)],
)
def test_sigterm_around_the_end_of_an_epoch(
    hook: str,
    n_updates: int,
    end: tuple[int, int],
    demos: Path,
    low_dim_base: Path,
    tmp_path: Path,
    whole_run: Callable[..., Any],
) -> None:
    options = [*options_of("bc_rnn", demos, low_dim_base, tmp_path), *ends(*end)]
    with pytest.raises(SIGTERMException):
        run(["fit", *options, sigterm_at(hook, n_updates)])
    stopped = last(tmp_path)
    assert torch.load(stopped, weights_only=True)["global_step"] in (n_updates, n_updates + 1)
    run(["fit", *options, f"--ckpt_path={stopped}"])
    assert_same(whole_run(*end), everything(last(tmp_path)))


@pytest.mark.slow
def test_sigterm_to_one_of_two_processes_at_the_end_of_an_epoch(
    demos: Path, low_dim_base: Path, tmp_path: Path
) -> None:
    def fit(folder: Path, *more: str) -> Path:
        options = options_of("bc_rnn", demos, low_dim_base, folder)
        torchrun(
            "-m", "difftori_pl", "fit", *options, *ends(10, -1), "--trainer.strategy=ddp", "--trainer.devices=2", *more
        )
        return last(folder)

    # An epoch has 7 batches, 4 for each process. The signal arrives after the first, during validation.
    whole = everything(fit(tmp_path / "whole"))
    assert whole["epoch"] == 2
    stopped = fit(tmp_path / "parts", sigterm_at("on_validation_start", 4))
    assert torch.load(stopped, weights_only=True)["global_step"] == 5
    assert_same(whole, everything(fit(tmp_path / "parts", f"--ckpt_path={stopped}")))


@pytest.mark.parametrize("end", [(21, -1), (-1, 3)], ids=["steps", "epochs"])
@pytest.mark.parametrize("after_training", ["true", "false"], ids=["after training", "after validation"])
def test_resuming_from_the_end_of_an_epoch(
    after_training: str, end: tuple[int, int], demos: Path, low_dim_base: Path, tmp_path: Path
) -> None:
    saves = ["--checkpoint.save_top_k=-1", f"--checkpoint.save_on_train_epoch_end={after_training}"]
    options = [*options_of("bc_rnn", demos, low_dim_base, tmp_path / "whole"), *ends(*end), *saves]
    run(["fit", *options])
    (first,) = (tmp_path / "whole").glob("run/version_0/checkpoints/*step=7.ckpt")
    options[options.index(f"--trainer.logger.save_dir={tmp_path / 'whole'}")] = f"--trainer.logger.save_dir={tmp_path}"
    run(["fit", *options, f"--ckpt_path={first}"])
    assert_same(everything(last(tmp_path / "whole")), everything(last(tmp_path)))


def test_an_extended_run_equals_one_of_full_length(demos: Path, low_dim_base: Path, tmp_path: Path) -> None:
    options = [*options_of("bc_rnn", demos, low_dim_base, tmp_path), "--model.lr_scheduler=null"]
    for n_updates in (7, 10):  # the end of an epoch, and the middle of one
        folder = f"--trainer.logger.name=run{n_updates}"
        run(["fit", *options, folder, f"--trainer.max_steps={n_updates}"])
        run(["fit", *options, folder, "--trainer.max_steps=17", "--ckpt_path=last"])
    run(["fit", *options, "--trainer.max_steps=17"])
    whole = everything(last(tmp_path))
    for n_updates in (7, 10):
        extended = tmp_path / f"run{n_updates}" / "version_1" / "checkpoints" / "last.ckpt"
        assert_same(whole, everything(extended), f"from {n_updates}")


def test_the_schedule_of_an_extended_run_has_its_new_length(demos: Path, low_dim_base: Path, tmp_path: Path) -> None:
    options = [*options_of("il", demos, low_dim_base, tmp_path), "--trainer.logger.version=0"]
    options += ["--checkpoint.every_n_train_steps=2", "--checkpoint.save_top_k=-1"]
    run(["fit", *options, "--trainer.max_steps=4"])
    first = last(tmp_path)
    longer = [*options, f"--ckpt_path={first}", "--trainer.logger.version=1"]
    run(["fit", *longer, "--trainer.max_steps=8"])
    rates = {}
    for path in (tmp_path / "run" / "version_1").rglob("*step=*.ckpt"):
        content = torch.load(path, weights_only=True)
        rates[content["global_step"]] = content["optimizer_states"][0]["param_groups"][0]["lr"]
    start = torch.load(first, weights_only=True)["optimizer_states"][0]["param_groups"][0]["initial_lr"]
    expected = {step: start * 0.5 * (1 + math.cos(math.pi * step / 8)) for step in (6, 8)}
    assert rates == pytest.approx(expected, rel=1e-6, abs=1e-12)
    # The saved configuration of a run holds the number of updates, not the reference to `trainer.max_steps`.
    saved = f"--config={first.parents[1] / 'config.yaml'}"
    with pytest.raises(
        ConfigurationError, match="after 4 updates and would rise again, but the run has 8: set --model"
    ):
        run(["fit", saved, *longer[1:], "--trainer.logger.version=2", "--trainer.max_steps=8"])


@pytest.mark.slow
def test_sigterm_writes_a_checkpoint_that_can_be_resumed(demos: Path, low_dim_base: Path, tmp_path: Path) -> None:
    options = [*options_of("il", demos, low_dim_base, tmp_path), "--model.lr_scheduler.T_max=100000"]
    process = subprocess.Popen(
        [sys.executable, "-m", "difftori_pl", "fit", *options, "--trainer.max_steps=100000"],
        cwd=ROOT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 240
    while not list(tmp_path.glob("run/version_0/events*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(4)
    sent = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert time.monotonic() - sent < 30
    stopped = torch.load(last(tmp_path), weights_only=True)
    n_updates = stopped["global_step"]
    assert n_updates > 0
    more = [f"--trainer.max_steps={n_updates + 5}"]
    resumed = run(["fit", *options, *more, f"--ckpt_path={last(tmp_path)}"])
    assert resumed.trainer.global_step == n_updates + 5
    options[options.index(f"--trainer.logger.save_dir={tmp_path}")] = f"--trainer.logger.save_dir={tmp_path / 'whole'}"
    run(["fit", *options, *more])
    assert_same(everything(last(tmp_path / "whole")), everything(last(tmp_path)))
