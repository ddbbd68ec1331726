"""The online replay buffer."""

from datamodules.replay.datamodule import ReplayDataModule

__all__ = ["ReplayDataModule"]
