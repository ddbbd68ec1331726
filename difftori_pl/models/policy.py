"""What every policy here can do: act, one step at a time, on a batch of environments."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypeAlias

from torch import Tensor

Observation: TypeAlias = Mapping[str, Tensor]
"""Key -> (B, T, ...): float32 vectors (B, T, dim) in the key's unit, uint8 images (B, T, 3, height, width)."""

State: TypeAlias = dict[str, Tensor]
"""Memory of a policy between two steps, each tensor batch first; empty if the policy has none."""


class Policy(ABC):
    """Maps observations to actions and carries its memory in an explicit state, so that episodes may be batched.

    Attributes:
        horizon: number of actions that are planned at a time.
    """

    horizon: int = 1

    @abstractmethod
    def initial_state(self, batch_size: int) -> State:
        """Memory at the start of an episode, for `batch_size` episodes."""

    @abstractmethod
    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Choose the next action.

        Args:
            obs: the newest observation of each episode, T = 1.
            state: memory returned by the previous call, or by `initial_state`.

        Returns:
            Actions (B, A) in [-1, 1], NaN for an episode without a usable one, and the memory for the next call.
        """

    def reference_policies(self) -> Mapping[str, "Policy"]:
        """Frozen policies, by name, to evaluate on the same initial states; none by default."""
        return {}

    def check_interface(self, other: str, interface: Mapping[str, Any]) -> None:
        """Refuse data or an environment in which observations or actions have another meaning than in training.

        Args:
            other: "data" or "environment", for the message.
            interface: the meanings by name, see `EnvFactory.interface`. By default nothing is compared.
        """
        del other, interface

    def describe(self) -> str:
        """Name the policy by its class and, where it starts from another one, by that: `DiffTORIIL + BCRNNGMM`."""
        base = self.reference_policies().get("base")
        return type(self).__name__ if base is None else f"{type(self).__name__} + {base.describe()}"


class OnlinePolicy(Policy):
    """A policy that learns from its own episodes; the callback `Collect` runs them.

    Attributes:
        action_dim: size A of an action.
        env_step: number of environment steps learned from, a scalar buffer that `Collect` sets.
    """

    action_dim: int
    env_step: Tensor

    @abstractmethod
    def explore(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Act with exploration noise; arguments and results are those of `act`."""

    def on_episodes_end(self) -> None:
        """Called when the running episodes have ended; does nothing by default."""


def join(**states: State) -> State:
    """One memory out of the memories of several parts, by name."""
    return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}


def part(state: State, name: str) -> State:
    """The memory of the part `name` out of a memory that `join` made."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
