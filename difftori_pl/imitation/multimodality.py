"""Solutions, landscapes and modes for several samples of the prior from one state (Figure 5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from difftori_pl.evaluation.metrics import n_modes
from difftori_pl.imitation.il import DiffTORIIL
from difftori_pl.models.policy import Observation, State
from difftori_pl.trajopt.landscape import Landscape, landscape


@dataclass(frozen=True)
class Samples:
    """Solutions from one state, one for each sample of the prior.

    Attributes:
        actions: solutions (N, H, A), in [-1, 1].
        proposal: initial actions (H, A) of all solutions, in [-1, 1].
        landscapes: objective of each sample over the first two components of one action of the plan, in standard
            deviations of the components.
        n_modes: number of distinct solutions. Solutions whose root-mean-square difference over the components of the
            plan is at most half a standard deviation belong to the same mode.
    """

    actions: Tensor
    proposal: Tensor
    landscapes: list[Landscape]
    n_modes: int


@torch.no_grad()
def sample_solutions(
    policy: DiffTORIIL,
    obs: Observation,
    state: State,
    n_samples: int = 4,
    temperature: float = 1.0,
    seed: int = 0,
    step: int = 0,
) -> Samples:
    """Solve from one state with several samples of the prior, all from the same proposal.

    Args:
        policy: the trained policy.
        obs: key -> (1, T, ...); the last of the T steps is solved.
        state: memory before the T steps.
        n_samples: number N of samples.
        temperature: standard deviation of the samples.
        seed: seed of the samples and of the base policy.
        step: index of the plan's action that the landscapes show. Modes differ most in the last actions.

    Raises:
        ConfigurationError: `step` is not below the horizon.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        latent, proposals, _ = policy.observe(obs, state)
        noise = torch.randn(n_samples, policy.posterior.sample_dim, device=latent.device)
    latent, proposal = latent[-1], proposals[-1]
    joined = torch.cat([temperature * noise, latent.expand(n_samples, -1)], dim=-1)
    starts = proposal.expand(n_samples, -1, -1).contiguous()
    solution: Any = policy.trajopt(policy.objective, joined, starts, policy.action_scale, trace=True)
    plans = solution.actions.flatten(1)
    edge = float((1.0 / policy.action_scale[:2]).max())
    return Samples(
        actions=solution.actions * policy.action_scale,
        proposal=proposal * policy.action_scale,
        landscapes=[
            landscape(policy.objective, joined, solution, element, ((step, 0), (step, 1)), -edge, edge)
            for element in range(n_samples)
        ],
        n_modes=n_modes(plans, radius=0.5 * plans.shape[1] ** 0.5),
    )
