"""Forms of the policy gradient through the planner (Eq. 6): the states on which it is taken, and when it is applied."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.distributed import mean, total
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.policy import Observation
from difftori_pl.reinforcement.planner import Planner
from difftori_pl.skipped_updates import SkippedUpdates
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive

NEGLIGIBLE = 1e-3
"""Relative norm below which `ReplayedStates` does not rescale the gradient to its full length."""


class PolicyGradient(nn.Module, ABC):
    """Base class: hooks at which `-Q̃(s, a(θ))` can be taken. By default it is taken nowhere.

    Subclasses override the hooks for replayed states or those for executed actions.

    Attributes:
        while_acting: whether the planner must be differentiated while it acts.
    """

    while_acting: bool = False

    def replayed(self, obs: Observation, loss: Callable[[Observation], Tensor]) -> Tensor | None:
        """Return the loss on replayed states, which is minimised together with the model's; None for no loss.

        Args:
            obs: observations of a training batch (B, H + 1, ...).
            loss: maps observations (b, 1, ...) to the loss of each (b,).
        """
        del obs, loss
        return None

    def scaled(self, gradients: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        """Scale the gradient of the loss on replayed states before it is added to that of the model's `others`."""
        del others
        return gradients

    def acted(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Process the loss (B,) of the actions that are about to be executed."""

    def episode_ended(self, parameters: Sequence[nn.Parameter], skipped: SkippedUpdates) -> None:
        """Called when all running episodes have ended; `skipped` counts steps that are not taken."""


def check_parts(policy_gradient: PolicyGradient | None, critic: nn.Module | None, planner: Planner) -> None:
    """Check that a policy gradient has a critic and a planner that can be differentiated.

    Raises:
        ConfigurationError: it lacks one of them, or there is a critic without a policy gradient.
    """
    if (critic is None) != (policy_gradient is None):
        raise ConfigurationError(
            "the policy gradient needs a critic, and a critic is used by nothing else: set both "
            "model.init_args.critic and model.init_args.policy_gradient, or neither"
        )
    if policy_gradient is not None and not planner.trajopt.backward_mode.differentiable:
        raise ConfigurationError(
            "the policy gradient needs a differentiable planner, but its backward mode is Detached: set "
            "model.init_args.planner.init_args.trajopt.init_args.backward_mode to Truncated or Unroll, for example"
        )


class ReplayedStates(PolicyGradient):
    """Policy gradient on the first states of replayed sequences, added to the model's other losses (Eq. 6).

    The authors' code accumulates the gradients of single states instead (`ExecutedActions`). This form makes full use
    of the hardware, visits each state as often as the other losses do, and needs no further optimiser.

    Args:
        weight: c0 of Eq. 6; 1 in Table 7.
        n_states: number of states of a batch to plan from; None for all.
        fraction: norm of this gradient as a fraction of the norm of the gradient of the model's other losses; replaces
            `weight`. The effect of a weight depends on the task and the solver: 0.05, divided by the mean absolute
            value of Q̃, gave a hundredth of that norm on walker-stand and a tenth on cheetah-run.

    Raises:
        ConfigurationError: `n_states` or `fraction` is not above 0, or both `weight` and `fraction` are given.
    """

    def __init__(self, weight: float = 1.0, n_states: int | None = None, fraction: float | None = None) -> None:
        super().__init__()
        check_not_negative(weight=weight)
        if n_states is not None and n_states < 1:
            raise ConfigurationError(f"n_states must be at least 1, or null for all states, got {n_states}")
        if fraction is not None and fraction <= 0.0:
            raise ConfigurationError(
                f"fraction must be above 0, got {fraction}: to train without the policy gradient, set both "
                "policy_gradient and critic to null (rl/without_backward.yaml)"
            )
        if fraction is not None and weight != 1.0:
            raise ConfigurationError(
                f"weight and fraction exclude each other, got weight {weight} and fraction {fraction}: to use the "
                "weight, set model.init_args.policy_gradient.init_args.fraction to null"
            )
        self.weight = weight
        self.n_states = n_states
        self.fraction = fraction

    def replayed(self, obs: Observation, loss: Callable[[Observation], Tensor]) -> Tensor:
        """Average the loss over the states; see `PolicyGradient.replayed`."""
        return self.weight * loss({key: value[: self.n_states, :1] for key, value in obs.items()}).mean()

    def scaled(self, gradients: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        """Rescale the gradient to `fraction` of the norm of the others; see `PolicyGradient.scaled`."""
        if self.fraction is None:
            return gradients
        # The norms are those of the means over processes, which the optimiser step uses.
        means = mean([*gradients, *others])
        own, length = (nn.utils.get_total_norm(part) for part in (means[: len(others)], means[len(others) :]))
        # Early critic gradients are rounding noise; do not amplify them.
        factor = self.fraction * length / own.clamp(min=NEGLIGIBLE * length).clamp(min=torch.finfo(own.dtype).tiny)
        return [factor * gradient for gradient in gradients]


class ExecutedActions(PolicyGradient):
    """Policy gradient of the authors' code: accumulated over the actions of an episode and applied in one step.

    The gradients of parallel episodes, in one or several processes, are summed too.

    Args:
        weight: c0 of Eq. 6; 1 in Table 7.
        learning_rate: learning rate of the Adam optimiser that takes this step.
        max_grad_norm: the sum of an episode's gradients is clipped to this norm; 100 in the authors' code.
    """

    while_acting = True

    def __init__(self, weight: float = 1.0, learning_rate: float = 1e-3, max_grad_norm: float = 100.0) -> None:
        super().__init__()
        check_not_negative(weight=weight)
        check_positive(learning_rate=learning_rate, max_grad_norm=max_grad_norm)
        self.weight = weight
        self.learning_rate = learning_rate
        self.max_grad_norm = max_grad_norm
        self.gradients: list[Tensor] | None = None
        self._optimizer: torch.optim.Optimizer | None = None
        self._moments: dict[int, Any] | None = None

    def acted(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Accumulate the gradient; see `PolicyGradient.acted`."""
        found = torch.autograd.grad(self.weight * loss.sum(), parameters, allow_unused=True)
        new = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        if self.gradients is None:
            self.gradients = new
        else:
            torch._foreach_add_(self.gradients, new)

    def episode_ended(self, parameters: Sequence[nn.Parameter], skipped: SkippedUpdates) -> None:
        """Step along the accumulated gradient and reset it; see `PolicyGradient.episode_ended`."""
        own = self.gradients or [torch.zeros_like(parameter) for parameter in parameters]
        # A process whose environments all crashed has no gradient, but must take part in the collective call.
        n_taken, *gradients = total([own[0].new_full((1,), float(self.gradients is not None)), *own])
        self.gradients = None
        if not n_taken:
            return
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        if skipped.admits(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm)):
            self._adam(parameters).step()
        for parameter in parameters:
            parameter.grad = None

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimiser's moments, for checkpoints."""
        return {"moments": self._optimizer.state_dict()["state"] if self._optimizer else self._moments}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Keep the moments until the optimiser is built at the end of an episode."""
        self._optimizer, self._moments = None, deepcopy(state["moments"])

    def _adam(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
            if self._moments is not None:
                self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": self._moments})
        return self._optimizer
