"""Policy protocol: act one step at a time on a batch of environments."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

Observation: TypeAlias = Mapping[str, Tensor]
"""Key -> (B, T, ...): float32 vectors (B, T, dim) in the key's unit, uint8 images (B, T, 3, height, width)."""

State: TypeAlias = dict[str, Tensor]
"""Memory of a policy between two steps; batch is each tensor's first dimension; empty for a policy without memory."""


class Policy(ABC):
    """A map from observations to actions, with its memory in an explicit state, so that episodes can be batched.

    Attributes:
        horizon: number of actions that are planned at a time.
    """

    horizon: int = 1

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Return the memory at the start of `batch_size` episodes."""

    @abstractmethod
    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Choose the next action.

        Args:
            obs: the newest observation of each episode, T = 1.
            state: memory returned by the previous call, or by `initial_state`.

        Returns:
            Actions (B, A) in [-1, 1] and the memory for the next call. An action is NaN if the policy failed.
        """

    def reference_policies(self) -> Mapping[str, "Policy"]:
        """Return frozen policies, by name, to evaluate on the same initial states; none by default."""
        return {}

    def check_interface(self, other: str, interface: Mapping[str, Any]) -> None:
        """Refuse data or an environment in which observations or actions have another meaning than in training.

        Args:
            other: "data" or "environment", for the message.
            interface: the meanings by name, see `EnvFactory.interface`. By default nothing is compared.
        """
        del other, interface

    def describe(self) -> str:
        """Return the name of the class, and of the class of its base policy: `DiffTORIIL + BCRNNGMM`."""
        base = self.reference_policies().get("base")
        return type(self).__name__ if base is None else f"{type(self).__name__} + {base.describe()}"


class OnlinePolicy(Policy):
    """A policy that learns from its own episodes; the callback `Collect` runs them.

    Attributes:
        action_dim: size A of an action.
        env_step: number of environment steps learned from, a scalar buffer that checkpoints hold.
    """

    action_dim: int
    env_step: Tensor

    @property
    def n_env_steps(self) -> int:
        """The value of `env_step`; reading it waits for the device, unless a subclass keeps a copy on the host."""
        return int(self.env_step)

    def set_env_step(self, n_env_steps: int) -> None:
        """Set `env_step`; `Collect` calls this after each update."""
        self.env_step.fill_(n_env_steps)

    @abstractmethod
    def explore(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Act with exploration noise; arguments and results are those of `act`."""

    def on_episodes_end(self) -> None:
        """React to the end of the running episodes; do nothing by default."""


def join(**states: State) -> State:
    """Merge the memories of several parts into one, with the parts' names as prefixes."""
    return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}


def part(state: State, name: str) -> State:
    """Return the memory of the part `name` from a memory that `join` merged."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
