"""Actions in the units of the data and of a policy: scaling to [-1, 1], and rotations in six numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.actions.rotations import (
    axis_angle_from_6d,
    axis_angle_to_6d,
    axis_angle_to_matrix,
    matrix_to_axis_angle,
)
from datamodules.actions.scaling import KEY as SCALING
from datamodules.actions.scaling import ActionScaling, ScalingMethod
from datamodules.errors import DataError

ROTATIONS = "action_rotations"
"""Name of the rotations in the interface of a datamodule, and thus in a checkpoint."""

UNCHANGED: Mapping[str, Any] = {SCALING: None, ROTATIONS: []}
"""The interface of a policy that acts in the units of the data, such as any whose checkpoint mentions none."""


@dataclass(frozen=True)
class ActionUnits:
    """The map from actions of the data to those of a policy, and its inverse.

    Attributes:
        scaling: scaling of the components that are not rotations; None if they lie in [-1, 1].
        rotations: first component, in the data, of each axis-angle vector; a policy has six numbers in its place, which
            are not scaled.
    """

    scaling: ActionScaling | None = None
    rotations: tuple[int, ...] = ()

    @classmethod
    def fit(
        cls, method: ScalingMethod, rotations: Sequence[int], actions: npt.NDArray[Any], margin: float
    ) -> ActionUnits:
        """Fit the scaling to training actions (N, A) in the data's units; see `ActionScaling.fit`."""
        rotated = [start + i for start in rotations for i in range(3)]
        return cls(ActionScaling.fit(method, actions, margin, rotated), tuple(rotations))

    @classmethod
    def from_interface(cls, interface: Mapping[str, Any] | None) -> ActionUnits:
        """Return the units that the interface of a checkpoint records.

        Raises:
            DataError: the record is damaged.
        """
        starts = (interface or {}).get(ROTATIONS) or []
        try:
            rotations = tuple(int(start) for start in starts)
        except (TypeError, ValueError) as error:
            raise DataError(
                f"expected {ROTATIONS} as a list of components in the checkpoint's interface, got {starts!r}. Use "
                "another checkpoint."
            ) from error
        return cls(ActionScaling.from_interface(interface), rotations)

    def record(self) -> dict[str, Any]:
        """Return the units as plain values, for the interface."""
        return {SCALING: None if self.scaling is None else self.scaling.record(), ROTATIONS: list(self.rotations)}

    def to_policy(self, actions: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Map actions (..., A) of the data to [-1, 1], with six numbers for each rotation, (..., A + 3 R)."""
        scaled = actions.clip(-1, 1) if self.scaling is None else self.scaling.scale(actions)
        parts = []
        for others, start in _split(self.rotations, 3):
            parts.append(scaled[..., others])
            if start is not None:
                vectors = torch.from_numpy(actions[..., start : start + 3].astype(np.float64))
                parts.append(axis_angle_to_6d(vectors).numpy())
        return np.concatenate(parts, axis=-1).astype(np.float32)

    def restore(self, actions: Tensor) -> Tensor:
        """Map actions (..., A + 3 R) of a policy to those of the data, (..., A)."""
        if self.rotations:
            widened = [start + 3 * i for i, start in enumerate(self.rotations)]
            parts = []
            for others, start in _split(widened, 6):
                parts.append(actions[..., others])
                if start is not None:
                    parts.append(axis_angle_from_6d(actions[..., start : start + 6]))
            actions = torch.cat(parts, dim=-1)
        return actions if self.scaling is None else self.scaling.restore(actions)

    def difference(self, actions: Tensor, others: Tensor) -> Tensor:
        """Subtract actions (..., A) in the data's units; for rotations, return the axis-angle vector between them."""
        result = actions - others
        for start in self.rotations:
            first, second = (axis_angle_to_matrix(values[..., start : start + 3]) for values in (actions, others))
            result[..., start : start + 3] = matrix_to_axis_angle(first @ second.transpose(-1, -2))
        return result


def check_rotations(rotations: Sequence[int], action_dim: int) -> None:
    """Check that axis-angle vectors lie within an action of `action_dim` components and do not overlap.

    Raises:
        DataError: they do not.
    """
    ends = [0, *(start + 3 for start in rotations)]
    starts = [*rotations, action_dim]
    if any(start < end for start, end in zip(starts, ends, strict=True)):
        raise DataError(
            f"action_rotations must list the first component of each axis-angle vector, in ascending order, within the "
            f"{action_dim} components of an action, got {list(rotations)}. In robosuite an arm's rotation begins at 3."
        )


def _split(starts: Sequence[int], width: int) -> Iterator[tuple[slice, int | None]]:
    """Yield the components before each rotation and its start, and finally those after the last and None."""
    end = 0
    for start in starts:
        yield slice(end, start), start
        end = start + width
    yield slice(end, None), None
