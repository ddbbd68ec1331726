"""Index arithmetic for windows in episodes, vectorised over batches."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Windows:
    """Positions of all windows of a list of episodes, numbered episode by episode and step by step.

    The numbering and the padding are those of robomimic 0.3.0's `SequenceDataset`, which calls `n_obs_steps`
    frame_stack and `horizon` seq_length.

    Args:
        lengths: number of steps of each episode by name; their order numbers the episodes.
        horizon: number of steps from the current step on, including it.
        n_obs_steps: number of steps up to the current step, including it.
        pad_obs: allow windows to begin before the episode; its first step is repeated.
        pad_horizon: allow windows to end after the episode; its last step is repeated.

    Raises:
        DataError: `horizon` or `n_obs_steps` is below 1, or an episode is too short for one window.
    """

    def __init__(
        self,
        lengths: Mapping[str, int],
        horizon: int,
        n_obs_steps: int = 1,
        pad_obs: bool = True,
        pad_horizon: bool = True,
    ) -> None:
        if horizon < 1 or n_obs_steps < 1:
            raise DataError(f"horizon and n_obs_steps must be at least 1, got {horizon} and {n_obs_steps}.")
        n_lost = (0 if pad_obs else n_obs_steps - 1) + (0 if pad_horizon else horizon - 1)
        for name, length in lengths.items():
            if length <= n_lost:
                raise DataError(
                    f"{name}: expected at least {n_lost + 1} steps for one window, got {length}. "
                    "Shorten the window (horizon, n_obs_steps), pad it (pad_obs, pad_horizon), or remove the demo."
                )
        self.width = n_obs_steps - 1 + horizon
        self._lengths = np.fromiter(lengths.values(), np.int64, len(lengths))
        self._first_start = 1 - n_obs_steps if pad_obs else 0
        self._n_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._lengths - n_lost)])

    def __len__(self) -> int:
        return int(self._n_before[-1])

    def locate(self, indices: npt.ArrayLike) -> tuple[Int64Array, Int64Array]:
        """Return the position of windows.

        Args:
            indices: window numbers (B,).

        Returns:
            The episode number of each window (B,), and the step at window position 0 (B,), negative if padded.
        """
        numbers = np.asarray(indices, np.int64)
        episodes = np.searchsorted(self._n_before, numbers, side="right") - 1
        return episodes, numbers - self._n_before[episodes] + self._first_start

    def steps(self, episodes: Int64Array, starts: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Return the step at each position of each window.

        Args:
            episodes: episode numbers (B,).
            starts: steps at position 0 (B,).

        Returns:
            Steps (B, W), clipped to the episode, and the mask (B, W), True where nothing was clipped.
        """
        unclipped = starts[:, None] + np.arange(self.width)
        last = self._lengths[episodes, None] - 1
        return np.clip(unclipped, 0, last), (unclipped >= 0) & (unclipped <= last)
