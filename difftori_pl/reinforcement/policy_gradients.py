"""The policy-gradient loss through the planner (Eq. 6): on which states it is taken, and when it is stepped on."""

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
from difftori_pl.skipped_updates import SkippedUpdates
from difftori_pl.trajopt.solvers.base import check_not_negative, check_positive

LossOfActions = Callable[[Observation, Tensor], Tensor]
"""Maps observations (B, 1, ...) and planned first actions (B, A), with their gradient, to the loss of each (B,)."""

NEGLIGIBLE = 1e-3
"""A gradient that is shorter than this, compared with the others, is not made as long as `ReplayedStates` is to."""


class PolicyGradient(nn.Module, ABC):
    """Where `-Q̃(s, a(θ))` is taken. By default nowhere, so that a subclass overrides one of its two occasions.

    Attributes:
        while_acting: whether the planner must be differentiated while it acts.
    """

    while_acting: bool = False

    def replayed(self, obs: Observation, loss: Callable[[Observation], Tensor]) -> Tensor | None:
        """Take the loss on replayed states, to be minimised together with the model's; None for no loss.

        Args:
            obs: of a training batch (B, H + 1, ...).
            loss: maps observations (b, 1, ...) to the loss of each (b,).
        """
        del obs, loss
        return None

    def scaled(self, gradients: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        """Scale the gradient of the loss on replayed states, before it is added to that of the model's `others`."""
        del others
        return gradients

    def acted(self, loss: Tensor, parameters: Sequence[nn.Parameter]) -> None:
        """Take the loss (B,) of the actions that are executed now."""

    def episode_ended(self, parameters: Sequence[nn.Parameter], skipped: SkippedUpdates) -> None:
        """Called when all running episodes are over; `skipped` counts a step that is not taken."""


class ReplayedStates(PolicyGradient):
    """The loss as Eq. 6 has it, beside the model's other losses, on the first states of replayed sequences.

    The authors' code accumulates single states instead (`ExecutedActions`). This form fills the hardware, sees each
    state as often as the other losses do, and needs no further optimiser.

    Args:
        weight: c0 of Eq. 6; 1 in Table 7.
        n_states: number of states of a batch that are planned from; None for all.
        share: how long this gradient is made, as a share of the length of the gradient of the model's other losses,
            in place of a weight. What a weight does differs from task to task and from solver to solver: 0.05,
            divided by the mean size of Q̃, made a hundredth on walker-stand and a tenth on cheetah-run.

    Raises:
        ConfigurationError: `n_states` or `share` is not above 0, or a weight is given besides `share`.
    """

    def __init__(self, weight: float = 1.0, n_states: int | None = None, share: float | None = None) -> None:
        super().__init__()
        check_not_negative(weight=weight)
        if n_states is not None and n_states < 1:
            raise ConfigurationError(f"n_states must be at least 1, or null for all states, got {n_states}")
        if share is not None and share <= 0.0:
            raise ConfigurationError(
                f"share must be above 0, but {share} came: for no policy gradient, leave it and the critic out "
                "(rl/without_backward.yaml)"
            )
        if share is not None and weight != 1.0:
            raise ConfigurationError(
                f"the policy gradient is made a share of {share} of the others, so that a weight of {weight} would do "
                "nothing: set model.init_args.policy_gradient.init_args.share to null to weigh it"
            )
        self.weight = weight
        self.n_states = n_states
        self.share = share

    def replayed(self, obs: Observation, loss: Callable[[Observation], Tensor]) -> Tensor:
        """Mean over the states; see `PolicyGradient.replayed`."""
        return self.weight * loss({key: value[: self.n_states, :1] for key, value in obs.items()}).mean()

    def scaled(self, gradients: list[Tensor], others: list[Tensor]) -> list[Tensor]:
        """Make the gradient as long as `share` says; see `PolicyGradient.scaled`."""
        if self.share is None:
            return gradients
        # Of the means over processes, along which they step together.
        means = mean([*gradients, *others])
        own, length = (nn.utils.get_total_norm(part) for part in (means[: len(others)], means[len(others) :]))
        # What Q̃ says before it has learned anything is rounding, and is not to be made a gradient.
        factor = self.share * length / own.clamp(min=NEGLIGIBLE * length).clamp(min=torch.finfo(own.dtype).tiny)
        return [factor * gradient for gradient in gradients]


class ExecutedActions(PolicyGradient):
    """The authors' code: gradients of executed actions add up over an episode, and one step follows it.

    Those of episodes that run side by side, in one process or several, add up too.

    Args:
        weight: c0 of Eq. 6; 1 in Table 7.
        learning_rate: of the Adam optimiser that takes this step.
        max_grad_norm: the sum of an episode's gradients is scaled down to this norm; 100 in the authors' code.
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
        """Add the gradient; see `PolicyGradient.acted`."""
        found = torch.autograd.grad(self.weight * loss.sum(), parameters, allow_unused=True)
        new = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, found, strict=True)]
        if self.gradients is None:
            self.gradients = new
        else:
            torch._foreach_add_(self.gradients, new)

    def episode_ended(self, parameters: Sequence[nn.Parameter], skipped: SkippedUpdates) -> None:
        """Step; see `PolicyGradient.episode_ended`."""
        own = self.gradients or [torch.zeros_like(parameter) for parameter in parameters]
        # A process whose environments all crashed has none, but must not keep the others waiting.
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
        """The optimiser's moments, for checkpoints."""
        return {"moments": self._optimizer.state_dict()["state"] if self._optimizer else self._moments}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Keep the moments until the optimiser is built, at the end of an episode."""
        self._optimizer, self._moments = None, deepcopy(state["moments"])

    def _adam(self, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
        if self._optimizer is None:
            self._optimizer = torch.optim.Adam(parameters, lr=self.learning_rate)
            if self._moments is not None:
                self._optimizer.load_state_dict({**self._optimizer.state_dict(), "state": self._moments})
        return self._optimizer
