"""A torch data set of windows that fetches a whole batch at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules.batch import Batch
from datamodules.windowing.columns import Column
from datamodules.windowing.windows import Int64Array, Windows


class WindowDataset(Dataset[Batch]):
    """Data set that returns batches of windows; use `as_it_is` as the loader's `collate_fn`.

    The loader passes all indices of a batch at once (`__getitems__`), so that no Python code runs per window.

    Args:
        windows: positions of the windows in the episodes.
        columns: the data by name: "actions", "obs/<key>", and optionally "next_obs/<key>", "rewards", "dones".
        image_keys: observation keys that hold images (T, height, width, C).
        demo_numbers: index of each episode in the datamodule's list of demos, (n_episodes,).
    """

    def __init__(
        self,
        windows: Windows,
        columns: Mapping[str, Column],
        image_keys: Sequence[str],
        demo_numbers: npt.ArrayLike,
    ) -> None:
        self.columns = dict(columns)
        self._windows = windows
        self._image_keys = frozenset(image_keys)
        self._demo_numbers = np.asarray(demo_numbers, np.int64)

    def __len__(self) -> int:
        return len(self._windows)

    def __getitem__(self, index: int) -> Batch:
        """Return one window as a batch of size 1."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        """Return the windows with these indices as one batch; see `datamodules.batch`."""
        episodes, starts = self._windows.locate(indices)
        steps, mask = self._windows.steps(episodes, starts)
        batch = Batch(
            obs=self._observations("obs/", episodes, steps),
            actions=torch.from_numpy(self.columns["actions"].gather(episodes, steps)),
            mask=torch.from_numpy(mask),
            demo=torch.from_numpy(self._demo_numbers[episodes]),
            start=torch.from_numpy(starts),
        )
        next_obs = self._observations("next_obs/", episodes, steps)
        if next_obs:
            batch["next_obs"] = next_obs
        if "rewards" in self.columns:
            batch["rewards"] = torch.from_numpy(self.columns["rewards"].gather(episodes, steps))
        if "dones" in self.columns:
            batch["dones"] = torch.from_numpy(self.columns["dones"].gather(episodes, steps))
        return batch

    def episodes(self) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Iterate over whole episodes: the number of the demo, and its observations key -> (T, ...)."""
        names = [name for name in self.columns if name.startswith("obs/")]
        for number, *values in zip(self._demo_numbers, *(self.columns[name].episodes() for name in names), strict=True):
            observations = {}
            for name, value in zip(names, values, strict=True):
                key = name.removeprefix("obs/")
                tensor = torch.from_numpy(np.array(value))
                observations[key] = tensor.movedim(-1, -3) if key in self._image_keys else tensor
            yield int(number), observations

    def _observations(self, prefix: str, episodes: Int64Array, steps: Int64Array) -> dict[str, Tensor]:
        observations = {}
        for name, column in self.columns.items():
            if name.startswith(prefix):
                key = name.removeprefix(prefix)
                values = torch.from_numpy(column.gather(episodes, steps))
                observations[key] = values.movedim(-1, -3) if key in self._image_keys else values
        return observations


def as_it_is(batch: Any) -> Any:
    """Return a batch unchanged; the `collate_fn` for data sets that return whole batches."""
    return batch
