"""The name of TD-MPC's world model in version 0.1."""

from difftori_pl.models.td_mpc import TDMPC


class WorldModel(TDMPC):
    """The same as `TDMPC`, for configurations and checkpoints of version 0.1."""
