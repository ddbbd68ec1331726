"""Objectives: returns to maximise (Eq. 4, 5 and 7), and their conversion to residuals for least-squares solvers."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from difftori_pl.errors import ConfigurationError, ShapeError

Latent: TypeAlias = Any
"""Input that an objective is conditioned on: a tensor (B, Z), or a nested structure of tensors (B, ...)."""

LatentActionFunction = Callable[[Tensor, Tensor], Tensor]
"""Maps a latent (B, Z) and one action (B, A) to a score (B,) or (B, 1), or to the next latent (B, Z)."""


class Objective(Protocol):
    """A callable that scores action sequences.

    Batch elements must not influence one another. Pass all data that varies between elements in the latent.
    """

    def __call__(self, latent: Latent, actions: Tensor, /) -> Tensor:
        """Return the score (B,) of `actions` (B, H, A) from `latent` (B, Z); larger is better."""
        ...


@dataclass(frozen=True)
class ActionScore:
    """Eq. 7: G(z, a) = Σ_{l<H} γ^l f(z_l, a_l), z_{l+1} = d(z_l, a_l); for imitation, without a terminal value.

    Attributes:
        score: the learned f, (B, Z) and (B, A) to (B,) or (B, 1).
        dynamics: the learned d, (B, Z) and (B, A) to (B, Z); may be None for a horizon of 1.
        discount: γ; Eq. 7 has no discount, which is γ = 1.
    """

    score: LatentActionFunction
    dynamics: LatentActionFunction | None = None
    discount: float = 1.0

    def __call__(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the scores (B,) of `actions` (B, H, A) from `latent` (B, Z).

        Raises:
            ConfigurationError: there is more than one action and no dynamics.
            ShapeError: the score is not one number per batch element.
        """
        return self.terms(latent, actions).sum(dim=1)

    def terms(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the H terms of the sum (B, H)."""
        if self.dynamics is None and actions.shape[1] > 1:
            raise ConfigurationError(
                f"ActionScore needs dynamics for a horizon above 1, got a horizon of {actions.shape[1]}; "
                "pass `dynamics`, or use a horizon of 1"
            )
        latents = _latents(self.dynamics, latent, actions[:, :-1])
        return _scores(self.score, self.discount, latents, actions)


@dataclass(frozen=True)
class ChunkScore:
    """G(z, a) = f(z, (a_0, ..., a_{H-1})): one score for all actions, as in the authors' code for Meta-World.

    Attributes:
        score: the learned f, (B, Z) and (B, H * A) to (B,) or (B, 1).
    """

    score: LatentActionFunction

    def __call__(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the scores (B,) of `actions` (B, H, A) from `latent` (B, Z).

        Raises:
            ShapeError: the score is not one number per batch element.
        """
        return _per_element(self.score(latent, actions.flatten(1)), len(actions), actions)


@dataclass(frozen=True)
class RolloutReturn:
    """Eq. 4 and 5 with the last action from the policy: G(z, a) = Σ_{l<H} γ^l R(z_l, a_l) + γ^H Q(z_H, π(z_H)).

    The authors' code computes this. The equations as printed also optimise the last action: `OptimisedTerminalReturn`.

    Attributes:
        reward: the learned R, (B, Z) and (B, A) to (B,) or (B, 1).
        dynamics: the learned d, (B, Z) and (B, A) to (B, Z).
        terminal_value: the learned Q, for instance min(Q1, Q2), (B, Z) and (B, A) to (B,) or (B, 1).
        policy: π, (B, Z) to (B, A).
        discount: γ.
        continuation: probability that the task has not ended, (B, Z) to (B,). All later terms are multiplied by that of
            each latent z_1, ..., z_H that precedes them. None if tasks do not end.
    """

    reward: LatentActionFunction
    dynamics: LatentActionFunction
    terminal_value: LatentActionFunction
    policy: Callable[[Tensor], Tensor]
    discount: float = 0.99
    continuation: Callable[[Tensor], Tensor] | None = None

    def __call__(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return G (B,) of all H `actions` (B, H, A) from `latent` (B, Z)."""
        return self.terms(latent, actions).sum(dim=1)

    def terms(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the terms of the sum (B, H + 1): the rewards and the terminal value."""
        *latents, last = visited = _latents(self.dynamics, latent, actions)
        rewards = _scores(self.reward, self.discount, latents, actions)
        terminal = _per_element(self.terminal_value(last, self.policy(last)), len(actions), actions)
        terms = torch.cat((rewards, self.discount ** actions.shape[1] * terminal.unsqueeze(1)), dim=1)
        if self.continuation is None:
            return terms
        reached = torch.stack(visited[1:], dim=1).flatten(0, 1)
        goes_on = _per_element(self.continuation(reached), len(reached), actions).view(actions.shape[:2])
        products = torch.stack([*accumulate(goes_on.unbind(dim=1), torch.mul)], dim=1)  # ONNX has no cumprod
        return torch.cat((terms[:, :1], terms[:, 1:] * products), dim=1)


@dataclass(frozen=True)
class OptimisedTerminalReturn:
    """Eq. 4 and 5 as printed, with the last action optimised: G(z, a) = Σ_{l<H} γ^l R(z_l, a_l) + γ^H Q(z_H, a_H).

    Attributes:
        reward: the learned R, (B, Z) and (B, A) to (B,) or (B, 1).
        dynamics: the learned d, (B, Z) and (B, A) to (B, Z).
        terminal_value: the learned Q, for instance min(Q1, Q2), (B, Z) and (B, A) to (B,) or (B, 1).
        discount: γ.
    """

    reward: LatentActionFunction
    dynamics: LatentActionFunction
    terminal_value: LatentActionFunction
    discount: float = 0.99

    def __call__(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return G (B,) of `actions` (B, H + 1, A) from `latent` (B, Z); Q(z, a_0) if there is a single action."""
        return self.terms(latent, actions).sum(dim=1)

    def terms(self, latent: Tensor, actions: Tensor) -> Tensor:
        """Return the terms of the sum (B, H + 1): the rewards and the terminal value."""
        *latents, last = _latents(self.dynamics, latent, actions[:, :-1])
        terminal = _per_element(self.terminal_value(last, actions[:, -1]), len(actions), actions).unsqueeze(1)
        if not latents:
            return terminal
        rewards = _scores(self.reward, self.discount, latents, actions[:, :-1])
        return torch.cat((rewards, self.discount ** len(latents) * terminal), dim=1)


def return_to_residual(value: Tensor, offset: float) -> Tensor:
    """Convert a return G (B,) to the residual r = offset − G (B,), whose square least-squares solvers minimise.

    Minimising r² maximises G only while G stays below `offset`.
    """
    return offset - value


def return_to_residuals(objective: Objective, latent: Tensor, actions: Tensor, offset: float) -> Tensor:
    """Return residuals r (B, K) with ½ ‖r‖² = const − G, so that minimising ½ ‖r‖² maximises G exactly.

    An objective may define them in a method `residuals(latent, actions)`. For an objective with a method
    `terms(latent, actions)`, whose K terms (B, K) add up to the return, the residuals are r = √(2 (offset − term)). Any
    other objective counts as a single term.

    Args:
        objective: maps a latent (B, Z) and actions (B, H, A) to returns (B,).
        latent: what the objective is conditioned on (B, Z).
        actions: where to evaluate (B, H, A).
        offset: must exceed every term; the residual of a larger term is NaN. Not used if the objective defines
            `residuals`.

    Raises:
        ShapeError: the residuals or terms are not (B, K).
        ConfigurationError: the objective did not return a tensor.
    """
    if hasattr(objective, "residuals"):
        return _per_term(objective.residuals(latent, actions), "residuals", actions)
    if hasattr(objective, "terms"):
        terms = _per_term(objective.terms(latent, actions), "terms", actions)
    else:
        terms = objective(latent, actions).unsqueeze(1)
    return (2 * (offset - terms)).sqrt()


def check_is_tensor(result: object, name: str) -> None:
    """Check that `result` is a tensor.

    Raises:
        ConfigurationError: `result` is not a tensor.
    """
    if not isinstance(result, Tensor):
        raise ConfigurationError(f"{name} must be a tensor, got {type(result).__name__}; return only a torch tensor")


def _per_term(numbers: Tensor, name: str, actions: Tensor) -> Tensor:
    check_is_tensor(numbers, f"the objective's {name}")
    if numbers.ndim != 2 or numbers.shape[0] != actions.shape[0]:
        raise ShapeError(
            f"the objective's {name} must be (batch, number), here ({actions.shape[0]}, K), "
            f"got {tuple(numbers.shape)}; do not sum over them"
        )
    return numbers


def _latents(dynamics: LatentActionFunction | None, latent: Tensor, actions: Tensor) -> list[Tensor]:
    """List the latents (B, Z) before the first and after each of `actions` (B, H, A); H = 0 needs no dynamics."""
    latents = [latent]
    # `unbind` of an empty dimension has no outputs, and torch.export cannot read such a node back.
    for step in range(actions.shape[1]):
        assert dynamics is not None
        latents.append(dynamics(latents[-1], actions[:, step]))
    return latents


def _scores(score: LatentActionFunction, discount: float, latents: list[Tensor], actions: Tensor) -> Tensor:
    """Return the discounted scores (B, H) of `actions` (B, H, A), each at its latent (B, Z)."""
    # Only the latents are sequential. Scoring them in one call costs, for small batches, as much as scoring one.
    visited = torch.stack(latents, dim=1).flatten(0, 1)
    scores = _per_element(score(visited, actions.flatten(0, 1)), len(visited), actions).view(actions.shape[:2])
    if discount != 1.0:
        scores = scores * discount ** torch.arange(actions.shape[1], dtype=actions.dtype, device=actions.device)
    return scores


def _per_element(score: Tensor, n_elements: int, actions: Tensor) -> Tensor:
    """Check that there is one score per element, and convert the scores to the dtype of the actions for summing."""
    check_is_tensor(score, "a score")
    if score.shape not in ((n_elements,), (n_elements, 1)):
        raise ShapeError(
            f"a score must be one number per batch element, shape ({n_elements},) or ({n_elements}, 1), "
            f"got {tuple(score.shape)}; return one score for each row of the latent"
        )
    return score.reshape(n_elements).to(actions.dtype)
