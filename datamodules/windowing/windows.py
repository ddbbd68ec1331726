"""Where windows lie in episodes: index arithmetic only, on whole batches of windows at once."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from datamodules.errors import DataError

Int64Array = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]


class Windows:
    """All windows of a list of episodes, numbered episode by episode, step by step.

    The numbering and the padding are those of robomimic 0.3.0's `SequenceDataset`, which calls `n_obs_steps`
    frame_stack and `horizon` seq_length.

    Args:
        lengths: number of steps of each episode, by name; the order numbers the episodes.
        horizon: steps from the current one on, the current one included.
        n_obs_steps: steps up to the current one, the current one included.
        pad_obs: windows may begin before the episode, repeating its first step.
        pad_horizon: windows may end after the episode, repeating its last step.

    Raises:
        DataError: an episode is too short for one window.
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
            raise DataError(f"horizon and n_obs_steps count steps from 1, got {horizon} and {n_obs_steps}.")
        n_lost = (0 if pad_obs else n_obs_steps - 1) + (0 if pad_horizon else horizon - 1)
        for name, length in lengths.items():
            if length <= n_lost:
                raise DataError(
                    f"{name} has {length} steps, but a window needs at least {n_lost + 1}. "
                    "Shorten the window (horizon, n_obs_steps), pad it (pad_obs, pad_horizon), or drop the demo."
                )
        self.width = n_obs_steps - 1 + horizon
        self._lengths = np.fromiter(lengths.values(), np.int64, len(lengths))
        self._first_start = 1 - n_obs_steps if pad_obs else 0
        self._n_before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self._lengths - n_lost)])

    def __len__(self) -> int:
        return int(self._n_before[-1])

    def locate(self, indices: npt.ArrayLike) -> tuple[Int64Array, Int64Array]:
        """Find windows by number.

        Args:
            indices: window numbers (B,).

        Returns:
            The number of each window's episode (B,), and the step at its position 0 (B,), negative if padded.
        """
        numbers = np.asarray(indices, np.int64)
        episodes = np.searchsorted(self._n_before, numbers, side="right") - 1
        return episodes, numbers - self._n_before[episodes] + self._first_start

    def steps(self, episodes: Int64Array, starts: Int64Array) -> tuple[Int64Array, BoolArray]:
        """Give the step at each position of each window.

        Args:
            episodes: episode numbers (B,).
            starts: steps at position 0 (B,).

        Returns:
            Steps (B, W), clipped to the episode, and the mask (B, W), True where nothing was clipped.
        """
        wanted = starts[:, None] + np.arange(self.width)
        last = self._lengths[episodes, None] - 1
        return np.clip(wanted, 0, last), (wanted >= 0) & (wanted <= last)
