"""Configurations of every concrete class, for the contract tests. `tests.problems` holds the optimisation problems."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from lightning import Callback, LightningDataModule

from datamodules import (
    LeRobotDataModule,
    ManiSkill3DataModule,
    ManiSkillDataModule,
    MetaWorldDataModule,
    PointCloudRecipe,
    PushTDataModule,
    ReplayDataModule,
    RobomimicDataModule,
)
from difftori_pl.callbacks import (
    Checkpoint,
    Collect,
    ErrorLine,
    ExponentialMovingAverage,
    HeldOutError,
    LandscapeImages,
    LogInterval,
    ParameterCount,
    Progress,
    RolloutEvaluation,
)
from difftori_pl.envs import DMControl, EnvFactory, ManiSkill, ManiSkill3, MetaWorld, PushT, Robosuite
from difftori_pl.models.action_samplers import ActionSampler, DerivativeFree, Langevin
from difftori_pl.models.base_policies import (
    BC,
    BCRNNGMM,
    IBC,
    BasePolicy,
    CrossFitted,
    DiffusionPolicy,
    Noise,
    Residual,
    Zeros,
)
from difftori_pl.models.encoders import (
    CorruptedEncoder,
    DP3Encoder,
    DrQEncoder,
    Encoder,
    HistoryEncoder,
    PixelEncoder,
    PointNetEncoder,
    RecurrentEncoder,
    ResNet18Encoder,
    SmallConvEncoder,
    StateEncoder,
    TaskEncoder,
)
from difftori_pl.models.latent_model import LatentModel
from difftori_pl.models.noise_schedule import DDIM, DDPM, NoiseSchedule
from difftori_pl.models.policy import Observation
from difftori_pl.models.td_mpc import TDMPC
from difftori_pl.models.td_mpc2 import TDMPC2
from difftori_pl.models.world_model import WorldModel
from difftori_pl.reinforcement.policy_gradients import ExecutedActions, PolicyGradient, ReplayedStates
from difftori_pl.trajopt.backward import (
    AtSolution,
    BackwardMode,
    Detached,
    DirectLoss,
    Implicit,
    LastSteps,
    LibraryMode,
    Truncated,
    Unroll,
)
from difftori_pl.trajopt.bounds import (
    Bounds,
    InnerClamp,
    InUnits,
    Projection,
    StraightThroughProjection,
    Tanh,
    TrustRegion,
    Unbounded,
)
from difftori_pl.trajopt.solvers import (
    LBFGS,
    MPPI,
    Adam,
    GaussNewton,
    LevenbergMarquardt,
    LibrarySolver,
    NewtonCG,
    Solver,
    Theseus,
)
from tests.data import write_maniskill, write_metaworld, write_pusht, write_robomimic
from tests.lerobot_data import FIXTURES
from tests.maniskill3_data import IMAGE, VECTORS, copy_maniskill3

N_STEPS = 25

# Near an optimum a step is (α · offset / λ) g. For unit curvature these values give 0.6 of a Newton step.
SETTINGS = {"max_steps": N_STEPS, "step_size": 0.06, "damping": 1.0, "offset": 10.0}

# Skip the tests of Theseus if it is missing, and ignore the warning of its missing optional dependency.
needs_theseus = [
    pytest.mark.skipif(find_spec("theseus") is None, reason="theseus is not installed"),
    pytest.mark.filterwarnings("ignore:Couldn't import skparse.cholmod"),
]

SOLVERS: dict[type[Solver], Callable[[], Solver]] = {
    LevenbergMarquardt: lambda: LevenbergMarquardt(**SETTINGS),
    Theseus: lambda: Theseus(**SETTINGS),
    GaussNewton: lambda: GaussNewton(max_steps=N_STEPS, damping=1.7, adaptive=False, offset=10.0),
    LBFGS: lambda: LBFGS(max_steps=N_STEPS),
    NewtonCG: lambda: NewtonCG(max_steps=N_STEPS),
    Adam: lambda: Adam(max_steps=N_STEPS),
    MPPI: lambda: MPPI(max_steps=N_STEPS, n_samples=32, n_elites=8, max_std=0.5, min_std=1e-3, seed=0),
}
# Settings with which a solver reaches the optimum of the test problems to numerical precision.
CONVERGING: dict[type[Solver], Callable[[], Solver]] = {
    LevenbergMarquardt: SOLVERS[LevenbergMarquardt],
    Theseus: SOLVERS[Theseus],
    GaussNewton: SOLVERS[GaussNewton],
    LBFGS: SOLVERS[LBFGS],
    NewtonCG: SOLVERS[NewtonCG],
    Adam: lambda: Adam(max_steps=150, beta_1=0.5, beta_2=0.99),
}
# Solvers whose iterates do not depend on the scale of the objective.
SCALE_FREE = (LBFGS, NewtonCG, Adam)
# Solvers that step into regions where the objective is NaN; a sampler or a line search avoids them.
FOLLOWING = {part: build for part, build in SOLVERS.items() if part not in (MPPI, LBFGS, NewtonCG)}
MODES: dict[type[BackwardMode], Callable[[], BackwardMode]] = {
    Unroll: Unroll,
    Truncated: lambda: Truncated(n_steps=5),
    Detached: Detached,
    # Accept every solution; elements that did not converge have their own tests.
    Implicit: lambda: Implicit(tolerance=torch.inf),
    DirectLoss: lambda: DirectLoss(tolerance=torch.inf),
    LibraryMode: lambda: LibraryMode("truncated"),
}
# Backward modes whose gradient is exact at a converged solution.
EXACT: dict[type[BackwardMode], Callable[[], BackwardMode]] = {
    Unroll: Unroll,
    Implicit: Implicit,
    DirectLoss: lambda: DirectLoss(epsilon=1e-4),
}
BOUNDS: dict[type[Bounds], Callable[[], Bounds]] = {
    Projection: lambda: Projection(low=-1.0, high=1.0),
    StraightThroughProjection: lambda: StraightThroughProjection(low=-1.0, high=1.0),
    InnerClamp: lambda: InnerClamp(low=-1.0, high=1.0),
    InUnits: lambda: InUnits(Projection(low=-2.0, high=2.0), torch.tensor(2.0, dtype=torch.float64)),
    Tanh: lambda: Tanh(low=-1.0, high=1.0),
    TrustRegion: lambda: TrustRegion(radius=5.0),
    Unbounded: Unbounded,
}

CAMERAS = ("left_image", "right_image")
POSITION = {"position": 3}


def _recurrent() -> RecurrentEncoder:
    return RecurrentEncoder(StateEncoder(POSITION, latent_dim=None), hidden_dim=8, restart_after=4, latent_dim=5)


# Keyed by name, because some classes have several configurations. Their input is `observations`.
ENCODERS: dict[str, Callable[[], Encoder]] = {
    "state": lambda: StateEncoder(POSITION, latent_dim=6),
    "concatenation": lambda: StateEncoder({"position": 3, "speed": 2}, latent_dim=None, normalize=False),
    "recurrent": _recurrent,
    "history": lambda: HistoryEncoder(StateEncoder(POSITION, latent_dim=4), n_obs_steps=3),
    "history of nothing": lambda: HistoryEncoder(StateEncoder(POSITION, None, normalize=False), n_obs_steps=1),
    "corrupted": lambda: CorruptedEncoder(StateEncoder(POSITION, latent_dim=6), noise=0.1, dropout=0.2),
    "small_conv": lambda: SmallConvEncoder(CAMERAS, obs_dims=POSITION),
    "resnet18": lambda: ResNet18Encoder(CAMERAS, obs_dims=POSITION, latent_dim=9),
    "drq": lambda: DrQEncoder(n_channels=3, n_filters=2, key="left_image"),
    "pixels": lambda: PixelEncoder(n_channels=3, latent_dim=7, n_filters=4, key="left_image"),
    "pointnet": lambda: PointNetEncoder(n_points=40, obs_dims=POSITION),
    "pointnet of clouds only": lambda: PointNetEncoder(n_points=40, n_channels=3, latent_dim=7),
    "dp3": lambda: DP3Encoder(n_points=40, obs_dims=POSITION, latent_dim=7),
    "task": lambda: TaskEncoder(StateEncoder(POSITION, latent_dim=4), n_tasks=2, embedding_dim=3),
    "task with memory": lambda: TaskEncoder(_recurrent(), n_tasks=2, embedding_dim=3),
}
BASE_POLICIES: dict[str, Callable[[], BasePolicy]] = {
    "bc": lambda: BC(StateEncoder(POSITION), action_dim=2, hidden_dims=(8,)),
    "bc_normalized": lambda: BC(StateEncoder(POSITION), action_dim=2, hidden_dims=(8,), normalize_actions=True),
    "bc_rnn_gmm": lambda: BCRNNGMM(StateEncoder(POSITION, None), action_dim=2, hidden_dim=8, restart_after=4),
    "ibc": lambda: IBC(StateEncoder(POSITION, None), 2, hidden_dims=(8,), n_samples=16),
    "ibc_from_base": lambda: IBC(StateEncoder(POSITION, None), 2, base=Noise(2), hidden_dims=(8,), n_samples=16),
    "residual": lambda: Residual(Noise(2), StateEncoder(POSITION, None), hidden_dims=(8,)),
    "diffusion": lambda: DiffusionPolicy(
        StateEncoder(POSITION, None), 2, DDIM(10, 3), n_chunk_steps=8, n_executed_steps=3, dims=(8, 16)
    ),
    "cross_fitted": lambda: CrossFitted(Zeros(2), [Noise(2), Noise(2)], [["demo_0"], ["demo_1"]]),
    "zeros": lambda: Zeros(2),
    "noise": lambda: Noise(2),
}
SAMPLERS: dict[type[ActionSampler], Callable[[], ActionSampler]] = {
    DerivativeFree: DerivativeFree,
    Langevin: lambda: Langevin(n_steps=20, step_size=0.02),
}
NOISE_SCHEDULES: dict[type[NoiseSchedule], Callable[[], NoiseSchedule]] = {
    DDPM: lambda: DDPM(50, 50),
    DDIM: lambda: DDIM(50, 10),
}
POLICY_GRADIENTS: dict[type[PolicyGradient], Callable[[], PolicyGradient]] = {
    ReplayedStates: ReplayedStates,
    ExecutedActions: ExecutedActions,
}


def _small_td_mpc2(episodic: bool = False) -> TDMPC2:
    return TDMPC2(StateEncoder(POSITION, None, normalize=False), 2, 16, [8], 16, episodic=episodic)


# Keyed by name, because one class has two configurations.
WORLD_MODELS: dict[str, Callable[[], LatentModel]] = {
    "td_mpc": lambda: TDMPC(StateEncoder(POSITION, 6, [8], normalize=False), 2, 16),
    "world_model": lambda: WorldModel(StateEncoder(POSITION, 6, [8], normalize=False), 2, 16),
    "td_mpc2": _small_td_mpc2,
    "episodic td_mpc2": lambda: _small_td_mpc2(episodic=True),
}
# Each recipe, with the package that its simulator needs.
ENVS: dict[type[EnvFactory], tuple[str, Callable[[], EnvFactory]]] = {
    DMControl: ("dm_control", lambda: DMControl("cartpole-swingup", action_repeat=8)),
    ManiSkill: ("mani_skill2", ManiSkill),
    ManiSkill3: ("mani_skill", ManiSkill3),
    MetaWorld: ("metaworld", lambda: MetaWorld("assembly-v3", obs_keys=["state"])),
    PushT: ("gym_pusht", PushT),
    Robosuite: ("robosuite", lambda: Robosuite("Lift")),
}
# Each datamodule writes the file that it reads to the given folder.
DATAMODULES: dict[type[LightningDataModule], Callable[[Path], LightningDataModule]] = {
    RobomimicDataModule: lambda folder: RobomimicDataModule(
        str(write_robomimic(folder / "demos.hdf5", image_keys=["image"])), ["object"], 7, ["image"], horizon=3
    ),
    ManiSkillDataModule: lambda folder: ManiSkillDataModule(
        str(write_maniskill(folder)), 7, cloud=PointCloudRecipe(n_points=32), horizon=3
    ),
    ManiSkill3DataModule: lambda folder: ManiSkill3DataModule(
        str(copy_maniskill3(folder)), 4, list(VECTORS), [IMAGE], horizon=3
    ),
    MetaWorldDataModule: lambda folder: MetaWorldDataModule(
        "assembly-v3", str(write_metaworld(folder / "assembly.hdf5", "assembly-v3")), horizon=3
    ),
    LeRobotDataModule: lambda folder: LeRobotDataModule(
        str(FIXTURES / "so101_v3"), 6, ["state", "task"], ["images_front"], frame_cache=str(folder), horizon=3
    ),
    PushTDataModule: lambda folder: PushTDataModule(str(write_pusht(folder / "pusht.zarr")), horizon=3),
    ReplayDataModule: lambda folder: ReplayDataModule(horizon=3, batch_size=4, n_steps=100),
}
CALLBACKS: dict[type[Callback], Callable[[], Callback]] = {
    Checkpoint: Checkpoint,
    Collect: Collect,
    ExponentialMovingAverage: ExponentialMovingAverage,
    HeldOutError: HeldOutError,
    LandscapeImages: LandscapeImages,
    LogInterval: LogInterval,
    ParameterCount: ParameterCount,
    Progress: Progress,
    RolloutEvaluation: RolloutEvaluation,
    ErrorLine: ErrorLine,
}

# Each base class, and the concrete classes listed above.
LISTED: dict[type, set[type]] = {
    Solver: {*SOLVERS},
    BackwardMode: {*MODES},
    Bounds: {*BOUNDS},
    Encoder: {type(build()) for build in ENCODERS.values()},
    BasePolicy: {type(build()) for build in BASE_POLICIES.values()},
    ActionSampler: {*SAMPLERS},
    NoiseSchedule: {*NOISE_SCHEDULES},
    LatentModel: {type(build()) for build in WORLD_MODELS.values()},
    PolicyGradient: {*POLICY_GRADIENTS},
    EnvFactory: {*ENVS},
    LightningDataModule: {*DATAMODULES},
    Callback: {*CALLBACKS},
}


def observations(batch: int, steps: int) -> Observation:
    """Draw observations (B, T, ...) for every key that the encoders and policies above read."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(256, (2, batch, steps, 3, 84, 84), generator=generator, dtype=torch.uint8)
    return {
        "position": torch.randn(batch, steps, 3, generator=generator),
        "speed": torch.randn(batch, steps, 2, generator=generator),
        "task": torch.eye(2)[torch.randint(2, (batch, 1), generator=generator)].expand(batch, steps, 2),
        "left_image": images[0],
        "right_image": images[1],
        "point_cloud": torch.rand(batch, steps, 40, 6, generator=generator),
    }


def params(parts: dict, mode: type[BackwardMode] | None = None) -> list:
    """Return `parts` as test parameters, with marks for those that need an optional package.

    Args:
        parts: maps a class to a function that builds it.
        mode: if given, exclude solvers that this mode cannot differentiate.
    """
    return [
        pytest.param(build, id=part.__name__, marks=needs_theseus if part is Theseus else ())
        for part, build in parts.items()
        if mode is None or fits(part, mode)
    ]


def pairs(solvers: dict = SOLVERS, modes: dict = MODES) -> list:
    """Return all pairs of a solver and a mode that can differentiate it, as test parameters."""
    return [
        pytest.param(
            solver, mode, id=f"{part.__name__}-{kind.__name__}", marks=needs_theseus if part is Theseus else ()
        )
        for part, solver in solvers.items()
        for kind, mode in modes.items()
        if fits(part, kind)
    ]


def fits(solver: type[Solver], mode: type[BackwardMode]) -> bool:
    """Return whether a mode can differentiate a solver."""
    if issubclass(mode, LibraryMode):
        return issubclass(solver, LibrarySolver)
    needs = {
        LastSteps: solver.steps_differentiable or not mode.differentiable,
        AtSolution: solver.reaches_maximum,
        DirectLoss: solver.tiltable,
    }
    return all(capable for kind, capable in needs.items() if issubclass(mode, kind))


def concrete_subclasses(base: type) -> set[type]:
    """Return every concrete subclass of `base` that a configuration can name."""
    found = set()
    for subclass in base.__subclasses__():
        found |= concrete_subclasses(subclass)
        package, _, module = subclass.__module__.partition(".")
        ours = package in ("difftori_pl", "datamodules") and module != "training"
        if ours and not getattr(subclass, "__abstractmethods__", None):
            found.add(subclass)
    return found
