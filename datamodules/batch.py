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

from typing import TypedDict

from torch import Tensor


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
