"""Base policies, which propose the initial actions."""

from difftori_pl.models.base_policies.base import BasePolicy, LearnedPolicy
from difftori_pl.models.base_policies.bc import BC
from difftori_pl.models.base_policies.bc_rnn_gmm import BCRNNGMM
from difftori_pl.models.base_policies.cross_fitted import CrossFitted
from difftori_pl.models.base_policies.diffusion import DiffusionPolicy
from difftori_pl.models.base_policies.fixed import Noise, Zeros
from difftori_pl.models.base_policies.ibc import IBC
from difftori_pl.models.base_policies.residual import Residual

__all__ = [
    "BC",
    "BCRNNGMM",
    "IBC",
    "BasePolicy",
    "CrossFitted",
    "DiffusionPolicy",
    "LearnedPolicy",
    "Noise",
    "Residual",
    "Zeros",
]
