"""The line of progress: its words, its interval, and when it is shown at all."""

import logging
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelSummary, TQDMProgressBar
from torch.utils.data import DataLoader, TensorDataset

from difftori_pl.callbacks import ErrorLine, LogInterval, ParameterCount, Progress
from difftori_pl.callbacks.defaults import add_defaults
from difftori_pl.callbacks.progress_line import ProgressLine
from difftori_pl.callbacks.progress_text import WINDOW, Speed, duration, number, of_total, speed
from difftori_pl.cli import run
from difftori_pl.envs.local_pool import LocalPool

RL = Path(__file__).parents[2] / "rl.yaml"
LOGGER = "lightning.pytorch.utilities.rank_zero"


class Slow(LightningModule):
    """A model whose updates take a second of the test's clock."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.frozen = torch.nn.Linear(2, 2).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        del batch_idx
        loss = self.layer(batch[0]).square().mean()
        self.log("train/loss", 0.6123)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        del batch, batch_idx
        self.log("val/action_error", 0.35)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Clock(Callback):
    """Let `seconds` pass in each update."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1000.0

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += self.seconds


class Log(logging.Handler):
    """Messages of a logger."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())


@pytest.fixture
def log() -> Iterator[Log]:
    """Capture the messages of Lightning's logger, which may not be passed to the root logger."""
    logger, handler = logging.getLogger(LOGGER), Log()
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def fit(monkeypatch: pytest.MonkeyPatch, seconds: float, *callbacks: Callback, **arguments: Any) -> Trainer:
    clock = Clock(seconds)
    monkeypatch.setattr("difftori_pl.callbacks.progress.time.monotonic", lambda: clock.now)
    loader = DataLoader(TensorDataset(torch.ones(4, 1)))
    options = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=[clock, *callbacks], **options | arguments)
    trainer.fit(Slow(), loader, loader)
    return trainer


def lines(log: Log) -> list[str]:
    return [message for message in log.messages if message.startswith("step ")]


def test_a_file_receives_a_line_every_30_seconds_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    fit(monkeypatch, 20.0, Progress(), max_steps=8)
    assert lines(log) == [
        "step 2/8 · loss 0.612 · 20 s/it · 2 min left",
        "step 4/8 · loss 0.612 · 20 s/it · 1 min left",
        "step 6/8 · loss 0.612 · val error 0.35 · 20 s/it · 40 s left",
        "step 8/8 · loss 0.612 · val error 0.35 · 20 s/it · 0 s left",
        "step 8/8 · loss 0.612 · val error 0.35 · 20 s/it · took 3 min",
    ]


def test_a_run_that_is_limited_by_epochs_counts_its_steps(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    fit(monkeypatch, 1.0, Progress(), max_epochs=3)
    assert lines(log) == ["step 12/12 · loss 0.612 · val error 0.35 · 1.0 it/s · took 12 s"]


def test_a_run_without_a_limit_shows_no_total(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    class Stop(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            del pl_module
            trainer.should_stop = trainer.current_epoch == 1

    fit(monkeypatch, 20.0, Progress(), Stop(), max_epochs=-1)
    assert lines(log)[0] == "step 2 · loss 0.612 · 20 s/it"


def test_the_time_left_is_at_most_the_time_allowed(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    fit(monkeypatch, 20.0, Progress(), max_steps=1000, max_time={"seconds": 100}, limit_train_batches=4)
    assert lines(log)[0] == "step 2/1,000 · loss 0.612 · 20 s/it · 1 min left"


def test_reinforcement_learning_counts_environment_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log: Log
) -> None:
    monkeypatch.setattr("difftori_pl.callbacks.progress_line.LOG_EVERY", 0.0)
    for module in ("collect", "rollout"):
        monkeypatch.setattr(f"difftori_pl.callbacks.{module}.EnvPool", LocalPool)
    options = ["--rollout.env=tests.envs.Point", "--rollout.n_episodes=2", "--rollout.every_n_env_steps=96"]
    options += ["--trainer.enable_progress_bar=true", f"--trainer.logger.save_dir={tmp_path}", "--rollout.n_videos=0"]
    run(["fit", f"--config={RL}", *options])
    shown = [message for message in log.messages if "env step" in message]
    assert [line.split(" · ")[0] for line in shown[:4]] == [
        "random env step 24/48",
        "random env step 48/48",
        "env step 2/120",
        "env step 4/120",
    ]
    assert all(re.match(r"[^·]+ · return \d[.\d]*( · |$)", line) for line in shown)
    assert re.fullmatch(r"env step 118/120 · return \S+ · \S+ (steps/s|s/step) · \d+ s left", shown[-3])
    assert re.fullmatch(r"env step 120/120 · return \S+ · \S+ (steps/s|s/step) · took \d+ s", shown[-1])
    rollouts = [message for message in log.messages if message.startswith("rollouts of policy")]
    assert rollouts[:2] == [
        "rollouts of policy 1/2 · success 0/1 = 0 % (0 to 79)",
        "rollouts of policy 2/2 · success 0/2 = 0 % (0 to 66)",
    ]


def test_log_messages_appear_above_the_line_of_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("difftori_pl.callbacks.progress_line._on_terminal", lambda: True)
    handlers = logging.root.handlers
    line = ProgressLine(leave=True)
    assert line.due
    line.show(5, 10, "step 5/10")
    assert not line.due
    logging.getLogger("difftori_pl").warning("the episode crashed")
    line.close()
    states = [state for state in re.split(r"[\r\n]+", capsys.readouterr().err) if state.strip()]
    assert [state.strip(" █") for state in states] == ["step 5/10", "the episode crashed", "step 5/10", "step 5/10"]
    assert states[-1].count("█") == 6
    assert logging.root.handlers == handlers


def test_a_hidden_line_shows_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("difftori_pl.callbacks.progress_line._on_terminal", lambda: True)
    line = ProgressLine(hidden=True)
    assert not line.due
    line.show(5, 10, "step 5/10")
    line.close()
    assert capsys.readouterr().err == ""


def test_a_disabled_line_is_not_shown(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    progress = Progress()
    progress.disable()
    fit(monkeypatch, 20.0, progress, max_steps=8)
    assert lines(log) == []


def test_parameters_are_counted(monkeypatch: pytest.MonkeyPatch, log: Log) -> None:
    fit(monkeypatch, 1.0, ParameterCount(), max_steps=1, enable_progress_bar=False)
    assert "Slow: 2 parameters trained, 6 frozen (cpu)" in log.messages


@pytest.mark.parametrize(
    ("options", "interval"),
    [({"max_steps": 49}, 1), ({"max_steps": 50}, 50), ({"max_epochs": 2}, 1), ({"max_epochs": 13}, 50)],
)
def test_short_runs_log_every_update(options: dict[str, int], interval: int, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = fit(monkeypatch, 1.0, LogInterval(), enable_progress_bar=False, **options)
    assert trainer.log_every_n_steps == interval  # type: ignore[attr-defined]


def test_a_given_interval_is_kept_and_explained(monkeypatch: pytest.MonkeyPatch, caplog: Log) -> None:
    options = {"enable_progress_bar": False, "max_steps": 4}
    trainer = fit(monkeypatch, 1.0, LogInterval(3), log_every_n_steps=3, **options)
    assert trainer.log_every_n_steps == 3  # type: ignore[attr-defined]
    assert "no scalar" not in caplog.text
    trainer = fit(monkeypatch, 1.0, LogInterval(5), log_every_n_steps=5, **options)
    assert trainer.log_every_n_steps == 5  # type: ignore[attr-defined]
    assert "log_every_n_steps is 5, but this run has only 4 updates: no scalar of training is logged" in caplog.text


@pytest.mark.parametrize(
    ("config", "added", "summary"),
    [
        ({}, [Progress, ParameterCount], False),
        ({"enable_progress_bar": True}, [Progress, ParameterCount], False),
        ({"enable_progress_bar": False}, [ParameterCount], False),
        ({"callbacks": [TQDMProgressBar()]}, [ParameterCount], False),
        ({"callbacks": TQDMProgressBar()}, [ParameterCount], False),
        ({"callbacks": [ModelSummary()]}, [Progress], None),
        ({"enable_model_summary": True}, [Progress], True),
        ({"enable_model_summary": False}, [Progress], False),
    ],
)
def test_the_users_choices_are_kept(config: dict[str, Any], added: list[type], summary: bool | None) -> None:
    other = Callback()
    changed, callbacks = add_defaults(config, [other])
    assert callbacks[0] is other
    assert [type(callback) for callback in callbacks[1:]] == [LogInterval, ErrorLine, *added]
    assert changed.get("enable_model_summary") == summary
    assert {**changed, "enable_model_summary": None} == {"enable_model_summary": None} | {
        key: value for key, value in config.items() if key != "enable_model_summary"
    }


def test_the_speed_is_that_of_the_last_ten_minutes() -> None:
    counts = Speed()
    assert counts.at(0.0, 0) == 0.0
    for second in range(601):
        counts.add(float(second), 10.0 * second)
    assert counts.at(600.0, 6000.0) == pytest.approx(10.0)
    for second in range(601, 1201):
        counts.add(float(second), 6000.0 + (second - 600))
    assert counts.at(1200.0, 6600.0) == pytest.approx(1.0)
    assert len(counts._counts) <= WINDOW + 2


def test_words() -> None:
    assert [of_total(1240, 16000), of_total(1240, math.inf)] == ["1,240/16,000", "1,240"]
    assert [number(x) for x in (0.6123, -12.34, 1234.5, 2e7, 5e-5)] == ["0.612", "-12.3", "1,234", "2e+07", "5e-05"]
    assert [speed(25.3, "it"), speed(2.53, "it"), speed(0.25, "it")] == ["25 it/s", "2.5 it/s", "4 s/it"]
    assert speed(0.5, "steps") == "2 s/step"
    seconds = (40, 59.6, 540, 3599, 7500, 90000)
    assert [duration(x) for x in seconds] == ["40 s", "1 min", "9 min", "1 h 0 min", "2 h 5 min", "1 d 1 h"]
