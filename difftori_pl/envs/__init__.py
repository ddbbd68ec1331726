"""Recipes for the simulators, all of which are optional dependencies."""

from difftori_pl.envs.base import EnvFactory as EnvFactory
from difftori_pl.envs.depth_cloud import DepthCloud as DepthCloud
from difftori_pl.envs.dm_control import DMControl as DMControl
from difftori_pl.envs.maniskill import ManiSkill as ManiSkill
from difftori_pl.envs.maniskill3 import ManiSkill3 as ManiSkill3
from difftori_pl.envs.metaworld import MetaWorld as MetaWorld
from difftori_pl.envs.pusht import PushT as PushT
from difftori_pl.envs.robosuite import Robosuite as Robosuite
