"""The public names of the package, which `datamodules` imports from here on first use."""

from datamodules.actions.scaling import ActionScaling
from datamodules.batch import Batch
from datamodules.errors import DataError
from datamodules.lerobot import LeRobotDataModule
from datamodules.maniskill import ManiSkillDataModule
from datamodules.maniskill3 import ManiSkill3DataModule
from datamodules.metaworld import MetaWorldDataModule
from datamodules.observation_spec import ObservationSpec
from datamodules.point_cloud import PointCloudRecipe
from datamodules.pusht import PushTDataModule
from datamodules.replay import ReplayDataModule
from datamodules.robomimic import RobomimicDataModule
from datamodules.windowing.statistics import Statistics

__all__ = [
    "ActionScaling",
    "Batch",
    "DataError",
    "LeRobotDataModule",
    "ManiSkill3DataModule",
    "ManiSkillDataModule",
    "MetaWorldDataModule",
    "ObservationSpec",
    "PointCloudRecipe",
    "PushTDataModule",
    "ReplayDataModule",
    "RobomimicDataModule",
    "Statistics",
]
