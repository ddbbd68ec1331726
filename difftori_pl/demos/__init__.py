"""Scripted experts, and the recording of their demonstrations in the official file formats."""

from difftori_pl.demos.convert import convert as convert
from difftori_pl.demos.expert import Expert as Expert
from difftori_pl.demos.experts import EXPERTS as EXPERTS
from difftori_pl.demos.lift import LiftExpert as LiftExpert
from difftori_pl.demos.metaworld import MetaWorldPlayer as MetaWorldPlayer
from difftori_pl.demos.recorder import Played as Played
from difftori_pl.demos.recorder import Player as Player
from difftori_pl.demos.recorder import Recording as Recording
from difftori_pl.demos.recorder import record as record
from difftori_pl.demos.render import Rendering as Rendering
from difftori_pl.demos.render import render as render
from difftori_pl.demos.robosuite import RobosuitePlayer as RobosuitePlayer
from difftori_pl.demos.square import SquareExpert as SquareExpert
