"""Model predictive path integral control: planning by sampling, without gradients."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError
from difftori_pl.trajopt.objective import Latent
from difftori_pl.trajopt.problem import Evaluation, Problem
from difftori_pl.trajopt.solvers.base import SolverState, StepSolver, check_positive
from difftori_pl.trajopt.tree import repeat


@dataclass(frozen=True)
class MPPIState(SolverState):
    """Adds the standard deviation of the sampling distribution; the iterate is its mean.

    Attributes:
        std: standard deviation of the samples (B, H, A).
        proposals: further action sequences added to the samples of each step (B, P, H, A).
        elite: the best sample of the last step (B, H, A).
        elite_value: the value of `elite` (B,).
        generator: source of the noise; None means torch's global generator.
    """

    std: Tensor
    proposals: Tensor
    elite: Tensor
    elite_value: Tensor
    generator: torch.Generator | None

    def is_finite(self) -> Tensor:
        """Mark the elements (B,) with a finite mean and value; there is no gradient to test."""
        return torch.isfinite(self.iterate).flatten(1).all(dim=1) & torch.isfinite(self.evaluation.value)

    def best(self) -> tuple[Tensor, Tensor]:
        """Return the better of mean and best sample (B, H, A), and its value (B,)."""
        mean_wins = self.evaluation.value >= self.elite_value
        return (
            torch.where(mean_wins.view(-1, 1, 1), self.iterate, self.elite),
            torch.where(mean_wins, self.evaluation.value, self.elite_value),
        )


class MPPI(StepSolver):
    """TD-MPC's planner (Hansen et al., arXiv:2203.04955, Algorithm 1) with its constants; not differentiable.

    Each step draws samples around the mean, evaluates them, and sets mean and standard deviation to those of the
    elites, weighted by exp(temperature · value). `Solution.actions` is the last mean, `best_actions` the best of all
    samples and means. There is no gradient: `grad_norm` is NaN.

    If there are several starts, the first is the initial mean. The others, such as policy roll-outs, are added to the
    samples of every step.

    Steps are not compiled: torch cannot compile draws from a generator, and matrix products with hundreds of rows
    dominate the run time.

    All batch elements share the same noise, so an element's solution does not depend on the rest of the batch. TD-MPC
    plans for one state at a time, which is equivalent, but executes a random elite, drawn by weight, instead of the
    mean.

    Args:
        max_steps: number of sampling rounds.
        n_samples: samples per element and round.
        n_elites: number of best samples, proposals included, that determine the next mean.
        temperature: factor on the value in the elites' weights; a larger factor favours better elites.
        momentum: fraction of the previous mean that is kept.
        min_std: smallest standard deviation per component; TD-MPC lowers it from 0.5 during training.
        max_std: initial and largest standard deviation per component.
        seed: seed of the noise, which is then the same in every solve; None draws from torch's global generator of the
            device, which `torch.manual_seed` or Lightning's `seed_everything` makes reproducible.
    """

    steps_differentiable = False
    reaches_maximum = False
    tiltable = False
    joins_starts = True
    compiles = False

    def __init__(
        self,
        max_steps: int = 6,
        n_samples: int = 512,
        n_elites: int = 64,
        temperature: float = 0.5,
        momentum: float = 0.1,
        min_std: float = 0.05,
        max_std: float = 2.0,
        seed: int | None = None,
    ) -> None:
        check_positive(max_steps=max_steps, n_elites=n_elites, temperature=temperature, min_std=min_std)
        if n_samples < n_elites:
            raise ConfigurationError(f"n_samples must be at least n_elites, got {n_samples} and {n_elites}")
        if not 0 <= momentum < 1:
            raise ConfigurationError(f"momentum must be in [0, 1), got {momentum}")
        if max_std < min_std:
            raise ConfigurationError(f"max_std must be at least min_std, got {max_std} and {min_std}")
        self.max_steps = max_steps
        self.n_samples = n_samples
        self.n_elites = n_elites
        self.temperature = temperature
        self.momentum = momentum
        self.min_std = min_std
        self.max_std = max_std
        self.seed = seed

    def init(self, problem: Problem, latent: Latent, iterate: Tensor) -> MPPIState:
        """Return the state with the only start (B, H, A) as mean, or the first of several starts (B, S, H, A)."""
        starts = iterate.detach()
        starts = starts.unsqueeze(1) if starts.ndim == 3 else starts
        mean = starts[:, 0]
        evaluation = _evaluate(problem, latent, mean)
        return MPPIState(
            iterate=mean,
            evaluation=evaluation,
            std=torch.full_like(mean, self.max_std),
            proposals=torch.where(torch.isfinite(starts), starts, mean.unsqueeze(1))[:, 1:],
            elite=mean,
            elite_value=evaluation.value,
            generator=None if self.seed is None else torch.Generator(mean.device).manual_seed(self.seed),
        )

    def step(self, problem: Problem, latent: Latent, state: SolverState) -> MPPIState:
        """Draw samples, evaluate them and the proposals, and update mean and standard deviation from the elites."""
        assert isinstance(state, MPPIState)
        mean = state.iterate
        # Always in float32, because another dtype would draw other numbers.
        noise = torch.randn(
            self.n_samples, *mean.shape[1:], dtype=torch.float32, device=mean.device, generator=state.generator
        )
        samples = problem.bounds.project(mean.unsqueeze(1) + state.std.unsqueeze(1) * noise.to(mean))
        samples = torch.cat((samples, state.proposals), dim=1)
        values = _score(problem, latent, samples)
        elite_values, order = values.topk(self.n_elites, dim=1)
        elites = samples.gather(1, order.view(*order.shape, 1, 1).expand(-1, -1, *mean.shape[1:]))
        # If no value is finite, the weights and the mean are NaN, and the element fails.
        weights = torch.softmax(self.temperature * elite_values, dim=1).view(*order.shape, 1, 1)
        elite_mean = (weights * elites).sum(dim=1)
        variance = (weights * (elites - elite_mean.unsqueeze(1)).square()).sum(dim=1)
        mean = self.momentum * mean + (1 - self.momentum) * elite_mean
        return MPPIState(
            iterate=mean,
            evaluation=_evaluate(problem, latent, mean),
            std=variance.sqrt().clamp(self.min_std, self.max_std),
            proposals=state.proposals,
            elite=elites[:, 0],
            elite_value=elite_values[:, 0],
            generator=state.generator,
        )


def _score(problem: Problem, latent: Latent, samples: Tensor) -> Tensor:
    """Return the values (B, N) of `samples` (B, N, H, A), with minus infinity for values that are not finite."""
    n_samples = samples.shape[1]
    values = problem.value(repeat(latent, n_samples), samples.flatten(0, 1)).view(-1, n_samples)
    return torch.where(torch.isfinite(values), values, -torch.inf)


def _evaluate(problem: Problem, latent: Latent, iterate: Tensor) -> Evaluation:
    value = problem.value(latent, iterate)
    return Evaluation(value, torch.full_like(iterate, torch.nan))
