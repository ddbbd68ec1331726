"""Base classes of base policies, which propose the initial actions of the trajectory optimiser."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from datamodules.batch import DataModule
from difftori_pl.models.policy import Observation, Policy, State


class BasePolicy(nn.Module, Policy):
    """Base class of policies that propose initial actions ("action refinement" in section 4.3 of the paper).

    Attributes:
        action_dim: size A of an action.
        config: class path and arguments of a policy that was loaded from a file; otherwise None.
        n_executed_steps: number of proposed actions that the policy executes, acting alone, before it proposes again: 1
            for a policy that decides at every step; None for one whose proposals do not depend on the step.
        interface: meaning of observations and actions in training, for a policy that was loaded from a file; otherwise
            None.
    """

    action_dim: int
    n_executed_steps: int | None = 1
    config: dict[str, Any] | None = None
    interface: dict[str, Any] | None = None

    def initial_state(self, batch_size: int) -> State:
        """Return the memory before the first step of `batch_size` episodes."""
        del batch_size
        return {}

    def training_state(self, demo: Tensor) -> State:
        """Return the memory before windows of training demonstrations, for `propose_posterior` in training.

        Args:
            demo: number (B,) of each window's demonstration, see `datamodules.batch`.
        """
        return self.initial_state(len(demo))

    def check_data(self, data: DataModule) -> None:
        """Reject training data that the policy cannot propose on; accept all by default."""
        del data

    @abstractmethod
    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Propose `horizon` actions from every step of a window, given the observations up to that step.

        Args:
            obs: key -> (B, T, ...).
            horizon: number H of actions to propose from each step.
            state: memory of the steps before the window.

        Returns:
            Actions (B, T, H, A) in [-1, 1], and the memory after the window.
        """

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Propose actions from the posterior of this policy given the demonstrated actions.

        A policy that draws a random mode draws it from the posterior given the demonstration, so that proposal and
        demonstration come from their joint distribution. If the mode were independent of the demonstration, a
        refinement would learn to ignore the proposal. Deterministic policies return `propose`.

        Args:
            obs: key -> (B, T, ...).
            actions: demonstrated actions (B, T, H, A) from every step on, in [-1, 1].
            state: memory of the steps before the window.

        Returns:
            Actions (B, T, H, A) in [-1, 1], and the memory after the window.
        """
        return self.propose(obs, actions.shape[2], state)

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Execute the first proposed action; see `Policy.act`."""
        actions, state = self.propose(obs, 1, state)
        return actions[:, -1, 0], state


class LearnedPolicy(BasePolicy):
    """A base policy with parameters, trained on demonstrations by `BehaviorCloning`."""

    @abstractmethod
    def loss(self, obs: Observation, actions: Tensor) -> Tensor:
        """Return the imitation loss of each step.

        Args:
            obs: key -> (B, T, ...).
            actions: demonstrated actions (B, T, A) in [-1, 1].

        Returns:
            Loss (B, T), unreduced, so that padded steps can be excluded.
        """

    def training_loss(self, obs: Observation, actions: Tensor, demo: Tensor) -> Tensor:
        """Return the `loss` on training demonstrations; a policy with a base policy gives it its `training_state`.

        Args:
            obs: key -> (B, T, ...).
            actions: demonstrated actions (B, T, A) in [-1, 1].
            demo: number (B,) of each window's demonstration, see `datamodules.batch`.
        """
        del demo
        return self.loss(obs, actions)
