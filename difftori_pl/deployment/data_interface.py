"""Translate between a robot and a policy whose checkpoint records names and units of its training data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from datamodules.actions.units import ActionUnits
from datamodules.errors import DataError
from difftori_pl.errors import CheckpointError, ShapeError

_TASK = "task"


class DataInterface:
    """Names of observations and units of actions in the training data; nothing changes if none are recorded.

    Args:
        policy: a policy; its `interface`, if it has one, comes from the datamodule.

    Raises:
        CheckpointError: the recorded scaling of the actions is damaged.
    """

    def __init__(self, policy: object) -> None:
        self._interface: Mapping[str, Any] = getattr(policy, "interface", None) or {}
        try:
            self._units = ActionUnits.from_interface(self._interface)
        except DataError as error:
            raise CheckpointError(str(error)) from error

    @property
    def unit(self) -> Tensor:
        """The size (A,) of a scaled action's unit in the data's units (radians for rotations); 1 without scaling."""
        scaling = self._units.scaling
        if scaling is None:
            return torch.ones(1)
        return torch.tensor([size or 1.0 for size in scaling.half_range])

    def rename(self, observation: Mapping[str, npt.ArrayLike], keys: Iterable[str]) -> Mapping[str, npt.ArrayLike]:
        """Return an observation with the policy's keys.

        Args:
            observation: values by the policy's keys or by the names in the data, such as "observation.state". `task`
                may be a task string instead of a one-hot vector.
            keys: the keys that the policy reads.

        Raises:
            ShapeError: the task string is not one of the training data.
        """
        found = dict(observation)
        for key in keys:
            name = self._interface.get(f"obs/{key}")
            if key not in found and name in found:
                found[key] = found[name]
        if isinstance(found.get(_TASK), str) and "tasks" in self._interface:
            found[_TASK] = self._one_hot(str(found[_TASK]))
        return found

    def restore(self, actions: Tensor) -> Tensor:
        """Map actions (..., A) of the policy to the data's units."""
        return self._units.restore(actions)

    def _one_hot(self, task: str) -> npt.NDArray[np.float32]:
        tasks = list(self._interface["tasks"])
        if task not in tasks:
            raise ShapeError(f"expected a task out of {tasks}, as in training, got {task!r}: use one of these strings")
        return np.eye(len(tasks), dtype=np.float32)[tasks.index(task)]
