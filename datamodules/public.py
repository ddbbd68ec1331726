"""The public names of the package, which `datamodules` imports from here on first use."""

from datamodules.batch import Batch
from datamodules.errors import DataError
from datamodules.maniskill import ManiSkillDataModule
from datamodules.metaworld import MetaWorldDataModule
from datamodules.observation_spec import ObservationSpec
from datamodules.point_cloud import PointCloudRecipe
from datamodules.pusht import PushTDataModule
from datamodules.replay import ReplayDataModule
from datamodules.robomimic import RobomimicDataModule
from datamodules.windowing.statistics import Statistics

__all__ = [
    "Batch",
    "DataError",
    "ManiSkillDataModule",
    "MetaWorldDataModule",
    "ObservationSpec",
    "PointCloudRecipe",
    "PushTDataModule",
    "ReplayDataModule",
    "RobomimicDataModule",
    "Statistics",
]
