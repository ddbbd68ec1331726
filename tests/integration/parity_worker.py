"""Train every module for ten steps in float64 in one or more processes; rank 0 saves the parameters.

Used by `test_ddp.py`. Random numbers are drawn for the whole batch and divided among the processes, so that the numbers
do not depend on the number of processes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import LightningModule, Trainer, seed_everything
from torch import Tensor

from datamodules import ReplayDataModule, RobomimicDataModule
from difftori_pl import (
    BC,
    BCRNNGMM,
    IBC,
    TDMPC,
    BehaviorCloning,
    DiffTORIIL,
    DiffTORIRL,
    DiffusionPolicy,
    LatentDynamics,
    LevenbergMarquardt,
    LinearSchedule,
    ObservationCritic,
    Planner,
    Posterior,
    RecurrentEncoder,
    ReplayedStates,
    Residual,
    Score,
    StateEncoder,
    StraightThroughProjection,
    TrajOptLayer,
    Truncated,
    Unroll,
)
from difftori_pl.trajopt.backward import BackwardMode

BATCH = 8
N_STEPS = 10
OBS = {"object": 14, "robot0_eef_pos": 3}


def state(latent_dim: int | None = 6) -> StateEncoder:
    return StateEncoder(OBS, latent_dim, hidden_dims=[8])


def il(backward_mode: BackwardMode, horizon: int) -> DiffTORIIL:
    return DiffTORIIL(
        encoder=RecurrentEncoder(state(), hidden_dim=8, n_layers=1, restart_after=15, latent_dim=4),
        base_policy=BC(state(), 7, [8]),
        trajopt=TrajOptLayer(LevenbergMarquardt(max_steps=6), backward_mode, StraightThroughProjection()),
        posterior=lambda *sizes: Posterior(*sizes, sample_dim=4, hidden_dims=[8]),
        score=lambda *sizes: Score(*sizes, hidden_dims=[8, 8]),
        dynamics=(lambda *sizes: LatentDynamics(*sizes, hidden_dims=[8])) if horizon > 1 else None,
        horizon=horizon,
        proposal_noise=0.5,
    )


def rl() -> DiffTORIRL:
    def state() -> StateEncoder:
        return StateEncoder(OBS, 6, hidden_dims=[8], normalize=False)

    return DiffTORIRL(
        world_model=TDMPC(state(), 7, 16),
        planner=Planner(TrajOptLayer(LevenbergMarquardt(3, 1e-3, 0.1), Truncated(2))),
        horizon_schedule=LinearSchedule(3, 3, 0),
        exploration=LinearSchedule(0.0, 0.0, 0),
        critic=ObservationCritic(state(), 7, 16),
        policy_gradient=ReplayedStates(fraction=0.1),
    )


MODULES: dict[str, Callable[[], LightningModule]] = {
    "bc": lambda: BehaviorCloning(BC(state(), 7, [8])),
    "bc_rnn_gmm": lambda: BehaviorCloning(BCRNNGMM(state(None), 7, hidden_dim=8, restart_after=16)),
    "diffusion": lambda: BehaviorCloning(DiffusionPolicy(state(), 7, dims=[8, 16], n_groups=4)),
    "ibc": lambda: BehaviorCloning(IBC(state(), 7, n_counter_examples=8, hidden_dims=[8], gradient_penalty=1.0)),
    "residual": lambda: BehaviorCloning(Residual(BC(state(), 7, [8]), state(), [8])),
    "il_truncated": lambda: il(Truncated(n_steps=3), 1),
    "il_unroll": lambda: il(Unroll(), 3),
    "rl": rl,
}


class SharedReplay(ReplayDataModule):
    """A buffer with the same content in all processes; each process uses its part of every batch."""

    def __init__(self, rank: int, n_ranks: int) -> None:
        super().__init__(horizon=3, batch_size=BATCH, priority_exponent=0.0)
        self.part = slice(rank, None, n_ranks)
        random = np.random.default_rng(0)
        obs = {key: random.normal(size=(41, size)) for key, size in OBS.items()}
        self.add(obs, random.uniform(-1, 1, (40, 7)), random.uniform(size=40), terminated=True)

    def setup(self, stage: str) -> None:
        self._rng = np.random.default_rng(1)

    def sample(self) -> dict[str, Any]:
        batch = super().sample()
        flat = batch.pop("obs") | batch
        own = {
            key: value[self.part].double() if value.is_floating_point() else value[self.part]
            for key, value in flat.items()
        }
        return {"obs": {key: own.pop(key) for key in OBS}} | own


class DistributedDraws:
    """Draws random numbers for the whole batch and returns those of every `n_ranks`-th window, from `rank`."""

    def __init__(self, rank: int, n_ranks: int) -> None:
        self.rank, self.n_ranks, self.n_calls = rank, n_ranks, 0

    def draw_part(self, draw: Callable[..., Tensor], shape: tuple[int, ...], **options: Any) -> Tensor:
        self.n_calls += 1
        generator = torch.Generator().manual_seed(self.n_calls)
        n_windows = BATCH // self.n_ranks
        whole = draw((shape[0] * self.n_ranks, *shape[1:]), generator=generator, **options)
        windows = whole.view(BATCH, shape[0] // n_windows, *shape[1:])
        return windows[self.rank :: self.n_ranks].reshape(shape)

    def replace_generators(self) -> None:
        randn, rand, randint = torch.randn, torch.rand, torch.randint
        torch.randn_like = lambda like: self.draw_part(randn, tuple(like.shape), dtype=like.dtype)  # type: ignore[assignment]
        torch.rand = lambda *shape, device=None: self.draw_part(rand, shape)  # type: ignore[assignment]
        torch.randint = lambda high, shape, device=None: self.draw_part(  # type: ignore[assignment]
            lambda size, generator: randint(high, size, generator=generator), shape
        )


def train(name: str, data: str, n_ranks: int) -> dict[str, Tensor]:
    seed_everything(1)
    torch.set_default_dtype(torch.float64)
    module = MODULES[name]()
    before = torch.nn.utils.parameters_to_vector(module.parameters()).clone()
    trainer = Trainer(
        accelerator="cpu", devices=n_ranks, strategy="ddp" if n_ranks > 1 else "auto", precision="64-true",
        max_steps=N_STEPS, max_epochs=-1, gradient_clip_val=10.0 if module.automatic_optimization else None,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batches: Any = SharedReplay(trainer.global_rank, n_ranks)
    if module.automatic_optimization:
        batches = RobomimicDataModule(
            data, list(OBS), action_dim=7, horizon=15, n_obs_steps=2, batch_size=BATCH // n_ranks,
            validation_fraction=0.0,
        )  # fmt: skip
    real = torch.randn_like, torch.rand, torch.randint
    DistributedDraws(trainer.global_rank, n_ranks).replace_generators()
    trainer.fit(module, datamodule=batches)
    torch.randn_like, torch.rand, torch.randint = real
    assert trainer.global_step == N_STEPS
    moved = torch.nn.utils.parameters_to_vector(module.parameters()) - before
    assert moved.abs().max() > 1e-3, "the parameters must change for a fair comparison"
    return dict(module.state_dict())


if __name__ == "__main__":
    data, output, n_ranks = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    trained = {name: train(name, data, n_ranks) for name in MODULES}
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        torch.save(trained, output)
