"""The base classes of base policies: they propose the actions that the trajectory optimiser starts from."""

from abc import abstractmethod
from typing import Any

from torch import Tensor, nn

from difftori_pl.models.policy import Observation, Policy, State


class BasePolicy(nn.Module, Policy):
    """Proposes initial actions (the paper's "action refinement", section 4.3).

    Attributes:
        action_dim: size A of an action.
        config: class path and arguments of a policy that was loaded from a file; None for others.
        n_executed_steps: number of proposed actions that the policy executes, acting alone, before it proposes again; 1
            for a policy that decides at every step, None for one whose proposals do not depend on the step.
        interface: what observations and actions meant in training, of a policy that was loaded from a file.
    """

    action_dim: int
    n_executed_steps: int | None = 1
    config: dict[str, Any] | None = None
    interface: dict[str, Any] | None = None

    def initial_state(self, batch_size: int) -> State:
        """Memory before the first step of `batch_size` episodes."""
        del batch_size
        return {}

    @abstractmethod
    def propose(self, obs: Observation, horizon: int, state: State) -> tuple[Tensor, State]:
        """Propose `horizon` actions from every step of a window, using only what was seen up to that step.

        Args:
            obs: key -> (B, T, ...).
            horizon: number H of actions to propose from each step.
            state: memory of the steps before the window.

        Returns:
            Actions (B, T, H, A) in [-1, 1], and the memory after the window.
        """

    def propose_posterior(self, obs: Observation, actions: Tensor, state: State) -> tuple[Tensor, State]:
        """Propose what this policy would have had in mind, had it acted as demonstrated.

        A policy that draws a mode at random proposes one from its posterior given the demonstration, so that proposal
        and demonstration come from their joint distribution. With a mode drawn regardless of the demonstration, what
        is learned from the pair is to forget the proposal. A policy with nothing to draw proposes as ever.

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
        """Imitation loss of each step.

        Args:
            obs: key -> (B, T, ...).
            actions: demonstrated actions (B, T, A) in [-1, 1].

        Returns:
            Loss (B, T), unreduced, so that padded steps can be left out.
        """
