from pathlib import Path

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor
from torch.testing import assert_close
from torch.utils.data import DataLoader

from difftori_pl.callbacks import ExponentialMovingAverage


class Walk(lightning.LightningModule):
    """A module whose weight grows by one at each step."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("fitted", torch.tensor(False))
        self.seen: list[float] = []

    def training_step(self, batch: Tensor) -> Tensor:
        self.fitted.fill_(True)  # type: ignore[operator]
        return -self.weight

    def validation_step(self, batch: Tensor) -> None:
        self.seen.append(self.weight.item())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1.0)


def walk(folder: Path, n_epochs: int, checkpoint: Path | None = None) -> Walk:
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=n_epochs,
        callbacks=[ExponentialMovingAverage(max_decay=0.8), ModelCheckpoint(folder, "{epoch}", save_top_k=-1)],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    module = Walk()
    loader = DataLoader([torch.zeros(1)] * 5)
    trainer.fit(module, loader, loader, ckpt_path=checkpoint)
    return module


def expected(n_steps: int) -> float:
    average = 1.0
    for n in range(1, n_steps):
        decay = min(0.8, 1 - (1 + n) ** -0.75)
        average = decay * average + (1 - decay) * (n + 1)
    return average


@pytest.mark.filterwarnings("ignore:The `LightningModule` does not have")
def test_the_average_is_validated_saved_and_resumed(tmp_path: Path) -> None:
    module = walk(tmp_path, 2)
    assert_close(module.seen, [expected(5)] * 5 + [expected(10)] * 5)
    saved = torch.load(tmp_path / "epoch=1.ckpt", weights_only=True)
    assert saved["state_dict"]["weight"] == pytest.approx(expected(10))
    assert saved["current_model_state"]["weight"] == 10
    assert bool(saved["state_dict"]["fitted"])
    resumed = walk(tmp_path / "resumed", 2, tmp_path / "epoch=0.ckpt")
    assert resumed.weight.item() == pytest.approx(expected(10))
