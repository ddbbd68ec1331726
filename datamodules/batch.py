"""The batch contract between datamodules and models.

Letters: B batch, W window, C channels, A action. A window is `n_obs_steps - 1` steps of history, the current step,
and `horizon - 1` steps of future, so that W = n_obs_steps - 1 + horizon. One step is one control period of the demo.

- obs: one tensor per observation key.
    - low-dim keys: (B, W, D) float32, in the units of the file (metres, radians, ...).
    - image keys: (B, W, C, height, width) uint8, 0 to 255. The encoders divide by 255, so that only a quarter of the
      bytes is transferred. The memory layout is channels-last: the axes are permuted without a copy.
    - point clouds: (B, W, N, C) float32, N unordered points; x, y, z in metres in the frame that the point-cloud recipe
      names, optionally followed by red, green and blue, 0 to 1. See `datamodules.point_cloud`.
- actions: (B, W, A) float32 in [-1, 1], the action taken at the observation of the same step.
- mask: (B, W) bool, True for real steps, False for padding.
- demo: (B,) int64, index into `datamodule.demos`, the same for every loader.
- start: (B,) int64, step of the demo at window position 0; negative if that position is padding.
- next_obs: the same as obs, one step later; optional.
- rewards: (B, W) float32; optional.
- dones: (B, W) bool; optional.

Padding repeats the first or the last real step, as in robomimic: position i of a window holds step `start + i`,
clipped to the demo.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
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
    """A batch of windows; the module docstring gives shapes, dtypes and units."""

    next_obs: dict[str, Tensor]
    rewards: Tensor
    dones: Tensor


class Fold(TypedDict):
    """A fold of the training demonstrations that a run leaves out.

    Attributes:
        fold: its number, from 0.
        n_folds: number of folds.
        demos: names of the demonstrations in it.
    """

    fold: int
    n_folds: int
    demos: list[str]


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
    def demos(self) -> Sequence[str]:
        """The names of the demonstrations, which `batch["demo"]` indexes; none by default."""
        return []

    @property
    def training_demos(self) -> Sequence[str]:
        """The names of the training demonstrations; none by default."""
        return []

    @property
    def left_out(self) -> Fold | None:
        """The fold of the training demonstrations that is left out; None by default."""
        return None

    @property
    @abstractmethod
    def obs_specs(self) -> Mapping[str, ObservationSpec]:
        """Kind, shape and type of each observation."""

    @abstractmethod
    def statistics(self) -> Mapping[str, Statistics]:
        """Statistics of each vector and of "actions" over the training steps."""
