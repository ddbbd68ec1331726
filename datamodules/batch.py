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

from typing import TypedDict

from torch import Tensor


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
