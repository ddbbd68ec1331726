"""LightningModules that train base policies and rivals."""

from difftori_pl.baselines.bc import BehaviorCloning

__all__ = ["BehaviorCloning"]
