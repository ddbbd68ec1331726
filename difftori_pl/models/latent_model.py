"""Base class of latent world models, and the constants and results of their losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from difftori_pl.models.encoders.base import Encoder
from difftori_pl.models.policy import Observation


@dataclass(frozen=True)
class LossSettings:
    """Constants of a world model's losses.

    Attributes:
        discount: γ.
        decay: λ of Eq. 2.
        reward_weight: c1 of Eq. 3.
        value_weight: c2 of Eq. 3.
        consistency_weight: c3 of Eq. 3.
        policy_std: standard deviation of the policy's noise in targets and in the policy's loss.
    """

    discount: float = 0.99
    decay: float = 0.5
    reward_weight: float = 0.5
    value_weight: float = 0.1
    consistency_weight: float = 2.0
    policy_std: float = 0.05

    def override(self, **values: float | None) -> LossSettings:
        """Return a copy with these values; None keeps a value."""
        return replace(self, **{name: value for name, value in values.items() if value is not None})


@dataclass(frozen=True)
class ModelLoss:
    """Result of a world model's loss on a batch.

    Attributes:
        value: the loss, a scalar.
        latents: predicted latents (B, H + 1, Z).
        next_actions: actions (B, H, A) in [-1, 1] of the policy at the observed next states; they carry no gradient.
        priorities: new priorities (B,) of the sequences.
        logged: scalars to log, by name.
    """

    value: Tensor
    latents: Tensor
    next_actions: Tensor
    priorities: Tensor
    logged: dict[str, Tensor]


class LatentModel(nn.Module, ABC):
    """Base class of world models with an encoder h, latent dynamics d, reward R, an ensemble Q and a policy π.

    A subclass provides these parts, its losses, and the part that the target network averages.

    Attributes:
        action_dim: size A of an action.
        encoder: h, or its first part.
        pi: π before its output function; trained by `policy_loss` only.
        settings: constants of the losses that `DiffTORIRL` does not override.
        encoder_rate: learning rate of `encoder_parameters`, relative to that of the others.
        episodic: whether `continuation` is learned and used in plans.
    """

    action_dim: int
    encoder: Encoder
    pi: nn.Module
    settings: LossSettings
    encoder_rate: float = 1.0
    episodic: bool = False

    @abstractmethod
    def encode(self, obs: Observation) -> Tensor:
        """Apply h: map observations (B, T, ...) to latents (B, T, Z)."""

    @abstractmethod
    def next(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply d: return the next latent (N, Z) after an action (N, A) in [-1, 1]."""

    @abstractmethod
    def reward(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply R: return the predicted reward (N,) of an action (N, A) at the latent (N, Z)."""

    @abstractmethod
    def values(self, latent: Tensor, action: Tensor) -> Tensor:
        """Apply Q: return the predicted returns (K, N) of the K networks."""

    @abstractmethod
    def plan_value(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the predicted return (N,) with which a plan ends."""

    def disagreement(self, latent: Tensor, action: Tensor) -> Tensor:
        """Return the standard deviation (N,) of the Q ensemble; for two networks, half of their distance."""
        return self.values(latent, action).std(0, correction=0)

    @abstractmethod
    def act(self, latent: Tensor) -> Tensor:
        """Apply π without noise: return actions (N, A) in [-1, 1] for latents (N, Z)."""

    @abstractmethod
    def sample(self, latent: Tensor, std: float) -> Tensor:
        """Draw actions (N, A) in [-1, 1] from π for latents (N, Z).

        Args:
            latent: latents (N, Z).
            std: standard deviation of the noise; ignored by a policy that predicts it.
        """

    def continuation(self, latent: Tensor) -> Tensor:
        """Return the probability (N,) that the task has not ended at the latent (N, Z); only if `episodic`."""
        raise NotImplementedError(f"{type(self).__name__} has no termination head, got a call of continuation")

    @property
    def averaged(self) -> nn.Module:
        """The part whose moving average is the target network."""
        return self

    def encoder_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that `encoder_rate` applies to."""
        return list(self.encoder.parameters())

    @abstractmethod
    def loss(self, target: Any, batch: dict[str, Any], settings: LossSettings) -> ModelLoss:
        """Compute the loss of all parts but the policy.

        Args:
            target: moving average of `averaged`.
            batch: as from `ReplayDataModule`.
            settings: constants of the loss.
        """

    @abstractmethod
    def policy_loss(self, latents: Tensor, settings: LossSettings) -> Tensor:
        """Compute the loss of the policy, a scalar, at predicted latents (B, H + 1, Z) without a gradient."""
