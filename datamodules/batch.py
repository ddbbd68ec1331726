"""The batch contract: the one page where data and models meet.

Letters: B batch, W window, C channels, A action. A window is `n_obs_steps - 1` steps of history, the current step,
and `horizon - 1` steps of future, so that W = n_obs_steps - 1 + horizon. One step is one control period of the demo.

- obs: one tensor per observation key.
    - low-dim keys: (B, W, D) float32, in the units of the file (metres, radians, ...).
    - image keys: (B, W, C, height, width) uint8, 0 to 255. The encoders divide by 255, so that a quarter of the bytes
      travels. The memory is channels-last: nothing was copied to put the channels first.
    - point clouds: (B, W, N, C) float32, N points in no order; x, y, z in metres of the frame that the data's recipe
      names, and perhaps red, green and blue, 0 to 1. See `datamodules.point_cloud`.
- actions: (B, W, A) float32 in [-1, 1], what was done on the observation of the same step.
- mask: (B, W) bool, True for real steps, False for padding.
- demo: (B,) int64, index into `datamodule.demos`, the same for every loader.
- start: (B,) int64, step of the demo at window position 0; negative where that is padding.
- next_obs: as obs, one step later; only if asked for.
- rewards: (B, W) float32, only if asked for.
- dones: (B, W) bool, only if asked for.

Padding repeats the first or the last real step, as robomimic does: position i of a window holds step `start + i`,
clipped to the demo.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, TypedDict

from lightning import LightningDataModule
from torch import Tensor

from datamodules.formats.fingerprint import Fingerprint
from datamodules.observation_spec import ObservationSpec
from datamodules.windowing.statistics import Statistics


class _Always(TypedDict):
    obs: dict[str, Tensor]
    actions: Tensor
    mask: Tensor
    demo: Tensor
    start: Tensor


class Batch(_Always, total=False):
    """A batch of windows; the module's docstring gives shapes, dtypes and units."""

    next_obs: dict[str, Tensor]
    rewards: Tensor
    dones: Tensor


class DataModule(LightningDataModule, ABC):
    """Loaders of `Batch`, and what a model asks about the data.

    Attributes:
        action_dim: size A of an action.
    """

    action_dim: int

    @property
    def interface(self) -> Mapping[str, Any]:
        """Meanings of observations and actions that the policy compares, such as the controller; none by default."""
        return {}

    @property
    def task(self) -> str:
        """The simulator's task; empty if it is unknown."""
        return ""

    @property
    def fingerprint(self) -> Fingerprint | None:
        """The identity of the data, for checkpoints; None if it is unknown."""
        return None

    @property
    @abstractmethod
    def obs_specs(self) -> Mapping[str, ObservationSpec]:
        """Kind, shape and type of each observation."""

    @abstractmethod
    def statistics(self) -> Mapping[str, Statistics]:
        """Statistics of each vector and of "actions" over the training steps."""
