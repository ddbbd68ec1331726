"""DiffTORI for model-based reinforcement learning, on top of TD-MPC (section 4.2)."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import asdict, replace
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from difftori_pl.errors import ConfigurationError
from difftori_pl.losses import at_least_float32, policy_gradient
from difftori_pl.models.augmentation import RandomShift
from difftori_pl.models.critics import ObservationCritic
from difftori_pl.models.encoders.base import observation_specs, unit_images
from difftori_pl.models.host_counter import HostCounter
from difftori_pl.models.latent_model import LatentModel, ModelLoss
from difftori_pl.models.policy import Observation, State
from difftori_pl.reinforcement.compiled_losses import CompiledLosses
from difftori_pl.reinforcement.critic_loss import critic_loss
from difftori_pl.reinforcement.gradient_steps import build_optimizer, gradients_of, take_step
from difftori_pl.reinforcement.online import OnlineModule
from difftori_pl.reinforcement.planner import Planner
from difftori_pl.reinforcement.policy_gradients import PolicyGradient, check_parts
from difftori_pl.reinforcement.schedules import LinearSchedule
from difftori_pl.trajopt import Solution
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive
from difftori_pl.trajopt.starts import shift


class DiffTORIRL(OnlineModule):
    """Learn a latent world model from replayed experience and act by trajectory optimisation in it.

    With a policy gradient, the model is also trained to improve its plans (Eq. 6). Without one, and with the solver
    `MPPI`, this is TD-MPC or TD-MPC2, depending on the world model. The world model defines its losses; this module
    defines the order of an update.

    With several processes, gradients are averaged before they are clipped. They are computed by `torch.autograd.grad`,
    which does not trigger DDP's gradient exchange.

    Args:
        world_model: encoder, dynamics, reward, values and policy, with their losses: `TDMPC` in the paper, or `TDMPC2`.
        planner: plans the executed actions; with a policy gradient, it is differentiated.
        horizon_schedule: number of planned actions over environment steps; its maximum is the length of training
            sequences.
        exploration: standard deviation of the exploration noise over environment steps.
        critic: Q̃, which evaluates the planned actions; required by the policy gradient. It is not trained if its
            parameters require no gradient (`critic_from_checkpoint`, `frozen_critic`).
        policy_gradient: the states on which Eq. 6 is taken; None for no policy gradient.
        warmup_planner: acts until `n_warmup_env_steps`, because sampling plans better in an undertrained model; no
            policy gradient is taken until then.
        n_warmup_env_steps: number of environment steps; 6000 agent steps in the authors' code.
        augmentation: augments observations in training; None for no augmentation.
        discount: γ; None for the world model's value, here and in the next five. The authors' code uses `TDMPC`'s.
        decay: λ of Eq. 2.
        reward_weight: c1 of Eq. 3.
        value_weight: c2 of Eq. 3, and the weight of the critic's loss.
        consistency_weight: c3 of Eq. 3.
        policy_std: standard deviation of the policy's noise in targets and in the policy's loss.
        target_rate: weight of the learned parameters in each update of the target networks.
        target_period: number of updates between two updates of the target networks.
        max_grad_norm: gradients are clipped to this norm.
        optimizer: Adam at 1e-3 from state, 3e-4 from pixels.
        compiled: compile the losses of an update and their gradients. This takes minutes at the first update; plans are
            compiled by `TrajOptLayer(compiled=True)`.
    """

    n_updates: Tensor

    def __init__(
        self,
        world_model: LatentModel,
        planner: Planner,
        horizon_schedule: LinearSchedule,
        exploration: LinearSchedule,
        critic: ObservationCritic | None = None,
        policy_gradient: PolicyGradient | None = None,
        warmup_planner: Planner | None = None,
        n_warmup_env_steps: int = 0,
        augmentation: RandomShift | None = None,
        discount: float | None = None,
        decay: float | None = None,
        reward_weight: float | None = None,
        value_weight: float | None = None,
        consistency_weight: float | None = None,
        policy_std: float | None = None,
        target_rate: float = 0.01,
        target_period: int = 2,
        max_grad_norm: float = 10.0,
        optimizer: OptimizerCallable = lambda parameters: torch.optim.Adam(parameters, lr=1e-3, fused=True),
        compiled: bool = False,
    ) -> None:
        super().__init__(world_model.action_dim, int(max(horizon_schedule.start, horizon_schedule.end)))
        settings = world_model.settings.override(
            discount=discount, decay=decay, reward_weight=reward_weight, value_weight=value_weight,
            consistency_weight=consistency_weight, policy_std=policy_std,
        )  # fmt: skip
        check_positive(
            horizon_schedule=min(horizon_schedule.start, horizon_schedule.end), discount=settings.discount,
            target_rate=target_rate, target_period=target_period, max_grad_norm=max_grad_norm,
        )  # fmt: skip
        check_not_negative(
            exploration=min(exploration.start, exploration.end), n_warmup_env_steps=n_warmup_env_steps,
            **asdict(settings),
        )  # fmt: skip
        if settings.discount > 1 or target_rate > 1:
            raise ConfigurationError(
                f"discount and target_rate must be at most 1, got {settings.discount} and {target_rate}"
            )
        check_parts(policy_gradient, critic, planner)
        self.world_model = world_model
        self.critic = critic
        averaged = {"world_model": world_model.averaged} | ({} if critic is None else {"critic": critic})
        self.target = nn.ModuleDict(deepcopy(averaged)).requires_grad_(False)
        self.planner = planner
        self.warmup_planner = warmup_planner
        self.policy_gradient = policy_gradient
        self.horizon_schedule = horizon_schedule
        self.exploration = exploration
        self.n_warmup_env_steps = n_warmup_env_steps
        self.augmentation = augmentation
        self.settings = settings
        self.discount = settings.discount
        self.target_rate = target_rate
        self.target_period = target_period
        self.max_grad_norm = max_grad_norm
        self.optimizer = optimizer
        self._losses = CompiledLosses(compiled)
        self._n_updates = HostCounter()
        self.register_buffer("n_updates", torch.zeros((), dtype=torch.int64))

    @property
    def max_horizon(self) -> int:
        """Maximum of the horizon schedule, which is also the number of steps in a training sequence."""
        return self.n_steps

    @property
    def horizon(self) -> int:  # type: ignore[override]  # read-only
        """Current horizon."""
        return int(self.horizon_schedule(self.n_env_steps))

    @property
    def warming_up(self) -> bool:
        """Whether the warm-up planner still acts."""
        return self.warmup_planner is not None and self.n_env_steps < self.n_warmup_env_steps

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Build one optimiser for model and critic, and one for the model's policy, which has a separate loss."""
        model, pi = self.world_model, list(self.world_model.pi.parameters())
        slow = model.encoder_parameters()
        return [build_optimizer(self.optimizer, self._learned(), slow, model.encoder_rate), self.optimizer(pi)]

    def initial_state(self, batch_size: int) -> State:
        """Return a plan of zeros; see `Policy.initial_state`."""
        weight = next(self.world_model.parameters())
        return {"plan": weight.new_zeros(batch_size, self.max_horizon, self.world_model.action_dim)}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Plan and return the first action; see `Policy.act`. The action of a failed solve is NaN."""
        with torch.no_grad():
            solution, state = self._solve(obs, state)
        return solution.mark_failed(solution.best_actions)[:, 0], state

    def explore(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Act with exploration noise; also compute the policy gradient if it is taken on executed actions."""
        gradient = self.policy_gradient
        if gradient is not None and gradient.while_acting and not self.warming_up:
            with torch.enable_grad():
                solution, state = self._solve(obs, state)
                gradient.acted(self._action_loss(obs, solution), self._model_parameters())
            action = solution.mark_failed(solution.best_actions)[:, 0]
        else:
            action, state = self.act(obs, state)
        noise = self.exploration(self.n_env_steps) * torch.randn_like(action)
        return (action + noise).clamp(-1.0, 1.0), state

    def on_episodes_end(self) -> None:
        """Called when all running episodes have ended."""
        if self.policy_gradient is not None:
            self.policy_gradient.episode_ended(self._model_parameters(), self._skipped_updates)

    def plan(self, obs: Observation, last: Tensor | None = None) -> Solution:
        """Plan from observations (B, 1, ...) and from the shifted last plan (B, H, A), if there is one."""
        planner = self.warmup_planner if self.warming_up else self.planner
        assert planner is not None
        latent = at_least_float32(self.world_model.encode(obs)[:, -1])
        return planner(self.world_model, self.discount, latent, self.horizon, last)

    def _solve(self, obs: Observation, state: State) -> tuple[Solution, State]:
        horizon = self.horizon
        solution = self.plan(obs, state["plan"][:, :horizon])
        remaining = torch.zeros_like(state["plan"])
        remaining[:, :horizon] = shift(solution.actions.detach())
        return solution, {"plan": remaining}

    def training_step(self, dataloader_iter: Iterator[Any]) -> None:
        """Update model and critic, the policy and, every `target_period` updates, the target networks."""
        trainer: Any = self.trainer
        batch = self.next_batch(dataloader_iter)
        if self.augmentation is not None:
            batch["obs"] = self.augmentation(batch["obs"], observation_specs(self))
        optimizers: Any = self.optimizers()
        # Lightning counts the steps of its wrapped optimisers. Unwrap the second one, to count one step per update.
        values, priorities = self.update(batch, optimizers[0], optimizers[1].optimizer)
        trainer.datamodule.update_priorities(batch["index"], priorities)
        self.log_update(values, len(priorities))

    def update(self, batch: dict[str, Any], optimizer: Any, policy_optimizer: Any) -> tuple[dict[str, Tensor], Tensor]:
        """Update on a batch.

        Args:
            batch: as from `ReplayDataModule`.
            optimizer: optimiser of model and critic.
            policy_optimizer: optimiser of the policy.

        Returns:
            Values to log, and new priorities (B,).
        """
        batch = batch | {"obs": unit_images(self, batch["obs"], next(self.parameters()).dtype)}
        loss = self.model_loss(batch)
        values = loss.logged | {"loss": loss.value.detach()}
        gradients = gradients_of(loss.value, self._learned(), self.scaler)
        plan_loss = self.plan_loss(batch["obs"])
        if self.policy_gradient is not None and plan_loss is not None:
            # The critic and the policy are excluded, so that the loss cannot be lowered by changing them.
            found = gradients_of(plan_loss, self._model_parameters(), self.scaler, unused=True)
            others = gradients[: len(found)]
            torch._foreach_add_(others, self.policy_gradient.scaled(found, others))
            values["plan_loss"] = plan_loss.detach()
            values["plan_grad_norm"] = nn.utils.get_total_norm(found)
        values["grad_norm"] = self._take_step(optimizer, self._learned(), gradients)
        policy_loss = self._losses(self.world_model.policy_loss, loss.latents.detach(), self.settings)
        pi = list(self.world_model.pi.parameters())
        gradients = gradients_of(policy_loss, pi, self.scaler)
        self._take_step(policy_optimizer, pi, gradients)
        values["policy_loss"] = policy_loss.detach()
        values["skipped_updates"] = values["loss"].new_tensor(self._skipped_updates.count)
        n_updates = self._n_updates.read(self.n_updates) + 1
        self._n_updates.write(self.n_updates, n_updates)
        if n_updates % self.target_period == 0:
            self._move_target()
        return values, loss.priorities

    def model_loss(self, batch: dict[str, Any]) -> ModelLoss:
        """Compute the loss on a batch of the world model and, if it is trained, of the critic."""
        target: Any = self.target
        found = self._losses(self.world_model.loss, target["world_model"], batch, self.settings)
        if self.critic is None or not self._critic_parameters():
            return found
        loss, mean = self._losses(
            critic_loss, self.critic, target["critic"], found.next_actions, batch, self.settings
        )  # fmt: skip
        return replace(found, value=found.value + loss, logged=found.logged | {"critic_loss": mean})

    def plan_loss(self, obs: Observation) -> Tensor | None:
        """Compute Eq. 6 on replayed observations (B, H + 1, ...); None during warm-up or without a policy gradient."""
        if self.policy_gradient is None or self.warming_up:
            return None
        return self.policy_gradient.replayed(obs, lambda states: self._action_loss(states, self.plan(states)))

    def _action_loss(self, obs: Observation, solution: Solution) -> Tensor:
        """Compute -Q̃(s, a(θ)) of Eq. 6 for observations (B, 1, ...), shape (B,), and log solver statistics."""
        assert self.critic is not None
        values = {f"solver/{name}": value for name, value in solution.summary().items()}
        self.log_dict(values | {"step": self.env_step.float()}, batch_size=len(solution.actions))
        return policy_gradient(self.critic(obs, solution.actions[:, :1]).squeeze(-1))

    def _take_step(self, optimizer: Any, parameters: list[nn.Parameter], gradients: list[Tensor]) -> Tensor:
        return take_step(optimizer, parameters, gradients, self.max_grad_norm, self.scaler, self._skipped_updates)

    @torch.no_grad()
    def _move_target(self) -> None:
        learned = [*self.world_model.averaged.parameters(), *(self.critic.parameters() if self.critic else ())]
        torch._foreach_lerp_(list(self.target.parameters()), learned, self.target_rate)

    def _model_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the world model except its policy."""
        policy = set(self.world_model.pi.parameters())
        return [parameter for parameter in self.world_model.parameters() if parameter not in policy]

    def _learned(self) -> list[nn.Parameter]:
        """Return the parameters of the first optimiser: those of the world model, then those of the critic."""
        return [*self._model_parameters(), *self._critic_parameters()]

    def _critic_parameters(self) -> list[nn.Parameter]:
        """Return the trainable parameters of the critic."""
        return [parameter for parameter in self.critic.parameters() if parameter.requires_grad] if self.critic else []

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what `OnlineModule` adds, and the configuration of a pretrained critic."""
        super().on_save_checkpoint(checkpoint)
        if self.critic is not None and self.critic.config is not None and "hyper_parameters" in checkpoint:
            # Loading this checkpoint then does not require the critic's file.
            checkpoint["hyper_parameters"]["critic"] = self.critic.config
