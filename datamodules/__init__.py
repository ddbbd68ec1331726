"""LightningDataModules for robot-learning data."""

from datamodules.batch import Batch
from datamodules.errors import DataError
from datamodules.robomimic import RobomimicDataModule
from datamodules.statistics import Statistics

__all__ = ["Batch", "DataError", "RobomimicDataModule", "Statistics"]
