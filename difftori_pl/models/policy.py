"""What every policy here can do: act, one step at a time, on a batch of environments."""

from collections.abc import Mapping
from typing import Protocol, TypeAlias

from torch import Tensor

Observation: TypeAlias = Mapping[str, Tensor]
"""Key -> (B, T, ...): float32 vectors (B, T, dim) in the key's unit, uint8 images (B, T, 3, height, width)."""

State: TypeAlias = dict[str, Tensor]
"""Memory of a policy between two steps, each tensor batch first; empty if the policy has none."""


class Policy(Protocol):
    """Maps observations to actions and carries its memory in an explicit state, so that episodes may be batched."""

    def initial_state(self, batch_size: int) -> State:
        """Memory at the start of an episode, for `batch_size` episodes."""

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        """Choose the next action.

        Args:
            obs: the newest observation of each episode, T = 1.
            state: memory returned by the previous call, or by `initial_state`.

        Returns:
            Actions (B, A) in [-1, 1], NaN for an episode without a usable one, and the memory for the next call.
        """


def join(**states: State) -> State:
    """One memory out of the memories of several parts, by name."""
    return {f"{part}.{name}": value for part, state in states.items() for name, value in state.items()}


def part(state: State, name: str) -> State:
    """The memory of the part `name` out of a memory that `join` made."""
    return {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}


def describe(policy: object) -> str:
    """Name a policy by its class, and what it starts from: `DiffTORIIL + BCRNNGMM`."""
    inner = getattr(policy, "policy", policy)
    references: dict[str, object] = getattr(inner, "reference_policies", dict)()
    base = references.get("base")
    name = type(inner).__name__
    return name if base is None else f"{name} + {describe(base)}"
