"""Faults during training: non-finite batches and killed loader processes."""

import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, get_worker_info

from datamodules.batch import Batch
from datamodules.windowing.window_dataset import WindowDataset
from difftori_pl.cli import main, run
from difftori_pl.errors import DivergenceError
from tests.conftest import SMALL

FIT = ["fit", "--config=bc_rnn_square_low_dim.yaml", *SMALL, "--trainer.limit_val_batches=0"]


@pytest.fixture
def corrupt(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Return a function that sets the batches with the given numbers to NaN; files with NaN would be refused."""

    def corrupt(numbers: set[int]) -> None:
        fetch, count = WindowDataset.__getitems__, iter(range(10**6))

        def fetch_corrupt(self: WindowDataset, indices: Sequence[int]) -> Batch:
            batch = fetch(self, indices)
            if next(count) in numbers:
                batch["actions"].fill_(torch.nan)
            return batch

        monkeypatch.setattr(WindowDataset, "__getitems__", fetch_corrupt)

    return corrupt


@pytest.mark.parametrize("kind", ["bc_rnn", "il"])
def test_a_non_finite_batch_is_skipped(
    kind: str, corrupt: Callable[[set[int]], None], quick: list[str], low_dim_base: Path
) -> None:
    corrupt({1, 3})
    il = ["fit", "--config=il_square_low_dim.yaml", f"--model.base_policy.checkpoint={low_dim_base}", FIT[-1]]
    trainer = run([*(il if kind == "il" else FIT), *quick, "--trainer.max_steps=6"]).trainer
    assert trainer.global_step == 6
    assert trainer.callback_metrics["train/skipped_updates"] == 2
    assert all(torch.isfinite(value).all() for value in trainer.lightning_module.state_dict().values())
    moments = trainer.optimizers[0].state_dict()["state"].values()
    assert all(torch.isfinite(value).all() for state in moments for value in state.values())


def test_diverged_training_ends(
    corrupt: Callable[[set[int]], None], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("difftori_pl.skipped_updates.MAX_IN_A_ROW", 3)
    corrupt(set(range(2, 100)))
    with pytest.raises(DivergenceError, match=r"4 consecutive updates were not finite.*resume"):
        run([*FIT, *quick, "--trainer.max_steps=50"])


# A process that dies while it sends a batch leaves its socket open.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_a_killed_loader_process_is_reported(quick: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    fetch = WindowDataset.__getitems__

    def die(self: WindowDataset, indices: Sequence[int]) -> Any:
        if get_worker_info() is not None and 5 in indices:
            os.kill(os.getpid(), signal.SIGKILL)
        return fetch(self, indices)

    monkeypatch.setattr(WindowDataset, "__getitems__", die)
    options = [*FIT, *quick, "--data.n_workers=2", "--trainer.max_steps=100"]
    with pytest.raises(SystemExit, match=r"error: a loader process died.*n_workers"):
        main(options)


def test_a_loader_process_killed_while_sending_a_batch_is_reported(
    quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def reset(self: DataLoader[Any]) -> Iterator[Any]:
        raise ConnectionResetError(104, "Connection reset by peer")
        yield

    monkeypatch.setattr(DataLoader, "__iter__", reset)
    monkeypatch.setattr("datamodules.windowing.resumable_loader.SIGNAL_SECONDS", 0.0)
    with pytest.raises(SystemExit, match=r"error: a loader process died.*reset by peer.*n_workers"):
        main([*FIT, *quick, "--trainer.max_steps=100"])
