"""DrQ-v2, the model-free baseline from pixels (Yarats et al. 2021, arXiv:2107.09645)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import at_least_float32, n_step_target, value_error
from difftori_pl.models.augmentation import RandomShift
from difftori_pl.models.drq_v2 import Actor, TwinCritic
from difftori_pl.models.encoders.base import Encoder, observation_specs, refuse_memory
from difftori_pl.models.noisy_actions import noisy
from difftori_pl.models.policy import Observation, State
from difftori_pl.models.td_mpc import orthogonal
from difftori_pl.reinforcement.gradient_steps import gradients_of, take_step
from difftori_pl.reinforcement.online import OnlineModule
from difftori_pl.reinforcement.schedules import LinearSchedule
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive


class DrQV2(OnlineModule):
    """Learn an actor and a twin critic from augmented images, with multi-step returns and without a model.

    The encoder learns from the critic's loss only. There is no target actor and no target encoder.

    Differs from the official code (facebookresearch/drqv2): `Collect` also runs the updates that the random episodes
    count for, and actions are clamped to [-1, 1], there to a millionth less.

    Args:
        encoder: maps observations to latents.
        action_dim: size A of an action.
        exploration: standard deviation of the noise over environment steps, in acting, in targets and in the actor's
            loss.
        n_steps: number of rewards in a target.
        feature_dim: size to which actor and critic project the latent.
        hidden_dim: width of their hidden layers.
        augmentation: augments the observations of a training batch; None for no augmentation.
        discount: γ.
        noise_clip: largest absolute value of the noise in targets and in the actor's loss.
        target_rate: weight of the critic in each update of the target critic.
        optimizer: makes one optimiser for encoder and critic, and one for the actor.

    Raises:
        ConfigurationError: a number is out of range, or the encoder has memory.
    """

    def __init__(
        self,
        encoder: Encoder,
        action_dim: int,
        exploration: LinearSchedule,
        n_steps: int = 3,
        feature_dim: int = 50,
        hidden_dim: int = 1024,
        augmentation: RandomShift | None = None,
        discount: float = 0.99,
        noise_clip: float = 0.3,
        target_rate: float = 0.01,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=1e-4, fused=True),
    ) -> None:
        super().__init__(action_dim, n_steps)
        check_positive(n_steps=n_steps, discount=discount, target_rate=target_rate)
        check_not_negative(exploration=min(exploration.start, exploration.end), noise_clip=noise_clip)
        if discount > 1 or target_rate > 1:
            raise ConfigurationError(f"discount and target_rate must be at most 1, got {discount} and {target_rate}")
        refuse_memory(encoder, self)
        self.encoder = encoder.apply(orthogonal)
        self.actor = Actor(encoder.latent_dim, action_dim, feature_dim, hidden_dim)
        self.critic = TwinCritic(encoder.latent_dim, action_dim, feature_dim, hidden_dim)
        self.target_critic = deepcopy(self.critic).requires_grad_(False)
        self.exploration = exploration
        self.augmentation = augmentation
        self.discount = discount
        self.noise_clip = noise_clip
        self.target_rate = target_rate
        self.optimizer = optimizer

    @property
    def std(self) -> float:
        """Current standard deviation of the noise."""
        return self.exploration(self.n_env_steps)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimiser for encoder and critic, and one for the actor."""
        return [self.optimizer(self._value_parameters()), self.optimizer(list(self.actor.parameters()))]

    def initial_state(self, batch_size: int) -> State:
        """Return an empty memory."""
        del batch_size
        return {}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Return the actor's mean; see `Policy.act`."""
        with torch.no_grad():
            return at_least_float32(self.actor(self.encode(obs))), state

    def explore(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Act with noise, which is not clipped here."""
        mean, state = self.act(obs, state)
        return noisy(mean, self.std, math.inf), state

    def encode(self, obs: Observation) -> Tensor:
        """Map observations (B, 1, ...) to latents (B, Z)."""
        latent, _ = self.encoder(obs, {})
        return latent[:, -1]

    def training_step(self, dataloader_iter: Iterator[Any]) -> None:
        """Update encoder and critic, then the actor, then the target critic."""
        batch = self.next_batch(dataloader_iter)
        self.log_update(self.update(batch), len(batch["actions"]))

    def update(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Update on a batch from `ReplayDataModule`, and return the values to log."""
        critic_optimizer, actor_optimizer = self._optimizers()
        now, later = self._ends(batch["obs"])
        latent = self.encode(now)
        loss, target = self.critic_loss(latent, later, batch)
        parameters = self._value_parameters()
        gradients = gradients_of(loss, parameters, self.scaler)
        grad_norm = self._take_step(critic_optimizer, parameters, gradients)
        actor_loss = self.actor_loss(latent.detach())
        actor_parameters = list(self.actor.parameters())
        gradients = gradients_of(actor_loss, actor_parameters, self.scaler)
        self._take_step(actor_optimizer, actor_parameters, gradients)
        self._move_target()
        return {
            "critic_loss": loss.detach(),
            "actor_loss": actor_loss.detach(),
            "value": target.mean(),
            "grad_norm": grad_norm,
            "skipped_updates": loss.new_tensor(self._skipped_updates.count),
        }

    def critic_loss(self, latent: Tensor, later: Observation, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Compute the squared error of both critics against the n-step target.

        Args:
            latent: latents (B, Z) of the first observations.
            later: observations (B, 1, ...) after `n_steps` actions.
            batch: as from `ReplayDataModule`.

        Returns:
            The loss, summed over both networks and averaged over the batch, and the targets (B,).
        """
        rewards, terminated = (batch[name][:, : self.n_steps] for name in ("rewards", "terminated"))
        with torch.no_grad():
            next_latent = self.encode(later)
            next_action = noisy(self.actor(next_latent), self.std, self.noise_clip)
            next_value = at_least_float32(self.target_critic(next_latent, next_action)).amin(0)
            target = n_step_target(rewards, next_value, terminated, self.discount)
        return value_error(self.critic(latent, batch["actions"][:, 0]), target).mean(), target

    def actor_loss(self, latent: Tensor) -> Tensor:
        """Compute minus the smaller value of noisy actions at latents (B, Z)."""
        action = noisy(self.actor(latent), self.std, self.noise_clip)
        return -at_least_float32(self.critic(latent, action)).amin(0).mean()

    def _ends(self, obs: Observation) -> tuple[Observation, Observation]:
        """Return the augmented observations before and after the `n_steps` actions, (B, 1, ...) each."""
        ends: Observation = {key: value[:, [0, self.n_steps]] for key, value in obs.items()}
        if self.augmentation is not None:
            ends = self.augmentation(ends, observation_specs(self))
        now, later = ({key: value[:, i : i + 1] for key, value in ends.items()} for i in (0, 1))
        return now, later

    def _optimizers(self) -> tuple[Any, Any]:
        optimizers: Any = self.optimizers()
        # Lightning counts the steps of its wrapped optimisers. Unwrap the second one, to count one step per update.
        return optimizers[0], optimizers[1].optimizer

    def _take_step(self, optimizer: Any, parameters: list[nn.Parameter], gradients: list[Tensor]) -> Tensor:
        return take_step(optimizer, parameters, gradients, math.inf, self.scaler, self._skipped_updates)

    @torch.no_grad()
    def _move_target(self) -> None:
        torch._foreach_lerp_(list(self.target_critic.parameters()), list(self.critic.parameters()), self.target_rate)

    def _value_parameters(self) -> list[nn.Parameter]:
        return [*self.encoder.parameters(), *self.critic.parameters()]
