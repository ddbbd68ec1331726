"""Policy protocol: act one step at a time on a batch of environments."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from torch import Tensor

Observation: TypeAlias = Mapping[str, Tensor]
"""Key -> (B, T, ...): float32 vectors (B, T, dim) in the key's unit, uint8 images (B, T, 3, height, width)."""

State: TypeAlias = dict[str, Tensor]
"""Memory of a policy between two steps; batch is each tensor's first dimension; empty for a policy without memory."""


class Policy(Protocol):
    """A map from observations to actions, with its memory in an explicit state, so that episodes can be batched."""

    def initial_state(self, batch_size: int) -> State:
        """Return the memory at the start of `batch_size` episodes."""

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Choose the next action.

        Args:
            obs: the newest observation of each episode, T = 1.
            state: memory returned by the previous call, or by `initial_state`.

        Returns:
            Actions (B, A) in [-1, 1] and the memory for the next call. An action is NaN if the policy failed.
        """


def join(**states: State) -> State:
    """Merge the memories of several parts into one, with the parts' names as prefixes."""
    return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}


def part(state: State, name: str) -> State:
    """Return the memory of the part `name` from a memory that `join` merged."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def describe(policy: object) -> str:
    """Name a policy by its class and the class of its base policy: `DiffTORIIL + BCRNNGMM`."""
    inner = getattr(policy, "policy", policy)
    references: dict[str, object] = getattr(inner, "reference_policies", dict)()
    base = references.get("base")
    name = type(inner).__name__
    return name if base is None else f"{name} + {describe(base)}"
