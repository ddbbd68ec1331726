"""Public names of the package, imported when one of them is first used."""

from difftori_pl.checkpoints.atomic import AtomicCheckpointIO
from difftori_pl.checkpoints.cross_fitted_policy import cross_fitted
from difftori_pl.checkpoints.pretrained_critic import critic_from_checkpoint, frozen_critic
from difftori_pl.checkpoints.pretrained_policy import from_checkpoint
from difftori_pl.checkpoints.robomimic_policy import from_robomimic
from difftori_pl.deployment.deploy import RobotPolicy, load_policy
from difftori_pl.imitation.bc import BehaviorCloning
from difftori_pl.imitation.il import DiffTORIIL
from difftori_pl.models.action_samplers import DerivativeFree, Langevin
from difftori_pl.models.augmentation import RandomShift
from difftori_pl.models.base_policies import (
    BC,
    BCRNNGMM,
    IBC,
    CrossFitted,
    DiffusionPolicy,
    Noise,
    Residual,
    Zeros,
)
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.cvae import LatentDynamics, Posterior, Score
from difftori_pl.models.encoders import (
    CloudAugmentation,
    CorruptedEncoder,
    DP3Encoder,
    DrQEncoder,
    HistoryEncoder,
    PixelEncoder,
    PointNetEncoder,
    RecurrentEncoder,
    ResNet18Encoder,
    SmallConvEncoder,
    StateEncoder,
    TaskEncoder,
)
from difftori_pl.models.noise_schedule import DDIM, DDPM
from difftori_pl.models.td_mpc import TDMPC
from difftori_pl.models.td_mpc2 import TDMPC2
from difftori_pl.models.world_model import WorldModel
from difftori_pl.reinforcement.drq_v2 import DrQV2
from difftori_pl.reinforcement.planner import Planner
from difftori_pl.reinforcement.policy_gradients import ExecutedActions, ReplayedStates
from difftori_pl.reinforcement.rl import DiffTORIRL
from difftori_pl.reinforcement.schedules import LinearSchedule
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Detached, Truncated, Unroll
from difftori_pl.trajopt.bounds import InnerClamp, Projection, StraightThroughProjection, Unbounded
from difftori_pl.trajopt.solvers import MPPI, LevenbergMarquardt

__all__ = [
    "BC",
    "BCRNNGMM",
    "DDIM",
    "DDPM",
    "IBC",
    "MPPI",
    "TDMPC",
    "TDMPC2",
    "AtomicCheckpointIO",
    "BehaviorCloning",
    "CloudAugmentation",
    "CorruptedEncoder",
    "CrossFitted",
    "DP3Encoder",
    "DerivativeFree",
    "Detached",
    "DiffTORIIL",
    "DiffTORIRL",
    "DiffusionPolicy",
    "DrQEncoder",
    "DrQV2",
    "ExecutedActions",
    "HistoryEncoder",
    "InnerClamp",
    "Langevin",
    "LatentDynamics",
    "LevenbergMarquardt",
    "LinearSchedule",
    "Noise",
    "ObservationCritic",
    "PixelEncoder",
    "Planner",
    "PointNetEncoder",
    "Posterior",
    "Projection",
    "RandomShift",
    "RecurrentEncoder",
    "ReplayedStates",
    "ResNet18Encoder",
    "Residual",
    "RobotPolicy",
    "Score",
    "SmallConvEncoder",
    "StateEncoder",
    "StraightThroughProjection",
    "TaskEncoder",
    "TrajOptLayer",
    "Truncated",
    "Unbounded",
    "Unroll",
    "WorldModel",
    "Zeros",
    "critic_from_checkpoint",
    "cross_fitted",
    "from_checkpoint",
    "from_robomimic",
    "frozen_critic",
    "load_policy",
]
