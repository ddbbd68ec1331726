"""Demonstrations in robomimic's HDF5 format: `RobomimicDataModule`."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from lightning import LightningDataModule
from lightning_utilities.core.rank_zero import rank_zero_warn
from torch.utils.data import DataLoader

from datamodules.batch import Batch
from datamodules.columns import Column, FileColumn, MemoryColumn
from datamodules.errors import DataError
from datamodules.faults import Fault, Request, demo_faults, file_faults
from datamodules.robomimic_file import RobomimicFile
from datamodules.shuffle import EpochShuffle
from datamodules.split import split_demos
from datamodules.statistics import Statistics, statistics_of
from datamodules.window_dataset import WindowDataset, as_it_is
from datamodules.windows import Windows


class RobomimicDataModule(LightningDataModule):
    """Windows of robomimic demonstrations, as batches of `datamodules.batch`.

    The windows are those of robomimic 0.3.0's `SequenceDataset`, in the same order. Which demos train and which
    validate is told in `datamodules.split`. The training order depends on the seed of `seed_everything` and on the
    epoch alone.

    Args:
        path: the HDF5 file.
        obs_keys: low-dim observation keys, e.g. "object".
        action_dim: number of action coordinates, checked against the file.
        image_keys: image observation keys, e.g. "agentview_image".
        horizon: steps of a window from the current one on; robomimic's seq_length.
        n_obs_steps: steps of a window up to the current one; robomimic's frame_stack.
        pad_obs: windows may begin before the demo.
        pad_horizon: windows may end after the demo.
        batch_size: windows in a batch.
        train_filter: filter key (`mask/<key>`) of the training demos.
        validation_filter: filter key of the validation demos.
        validation_fraction: part of the demos held out where no filter decides; 0 trains on every demo.
        split_seed: seed of the split where no filter decides.
        n_demos: train on the first so many training demos only.
        cache_low_dim: keep everything but images in memory (robomimic's cache mode "low_dim").
        cache_images: keep images in memory as well (robomimic's "all").
        load_next_obs: deliver `next_obs`.
        load_rewards: deliver `rewards` and `dones`.
        n_workers: loader processes of each loader.
    """

    def __init__(
        self,
        path: str,
        obs_keys: list[str],
        action_dim: int,
        image_keys: Sequence[str] = (),
        horizon: int = 10,
        n_obs_steps: int = 1,
        pad_obs: bool = True,
        pad_horizon: bool = True,
        batch_size: int = 100,
        train_filter: str | None = None,
        validation_filter: str | None = None,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        cache_low_dim: bool = True,
        cache_images: bool = False,
        load_next_obs: bool = False,
        load_rewards: bool = False,
        n_workers: int = 0,
    ) -> None:
        super().__init__()
        # The model may have arguments of the same name and another value (its planning horizon); Lightning refuses
        # to log such a pair.
        self.save_hyperparameters(logger=False)
        self.action_dim = action_dim
        self.batch_size = batch_size
        self.file = RobomimicFile(path)
        self._obs_keys, self._image_keys = tuple(obs_keys), tuple(image_keys)
        self._horizon, self._n_obs_steps = horizon, n_obs_steps
        self._pad_obs, self._pad_horizon = pad_obs, pad_horizon
        self._filters = (train_filter, validation_filter)
        self._validation_fraction, self._split_seed, self._n_demos = validation_fraction, split_seed, n_demos
        self._cache_low_dim, self._cache_images = cache_low_dim, cache_images
        self._load_next_obs, self._load_rewards = load_next_obs, load_rewards
        self._n_workers = n_workers
        self._train: WindowDataset | None = None
        self._validation: WindowDataset | None = None
        self._demos: list[str] = []
        self._env_meta: dict[str, Any] = {}

    def setup(self, stage: str | None = None) -> None:
        """Check the file against the arguments and load what is kept in memory; once, whatever the stage.

        Raises:
            DataError: the file cannot be used; the message names the first fault.
        """
        if self._train is not None:
            return
        try:
            self._refuse(list(file_faults(self.file)))
            self._demos = self.file.demos()
            self._env_meta = self.file.env_meta()
            train, validation = split_demos(self.file, *self._filters, self._validation_fraction, self._split_seed)
            train = self._few(train)
            self._refuse(demo_faults(self.file, [*train, *validation], self._request()))
            self._train = self._dataset(train)
            self._validation = self._dataset(validation) if validation else None
        finally:
            # No open handle may be inherited by the loaders' workers.
            self.file.close()

    @property
    def demos(self) -> list[str]:
        """The names of all demos of the file; `batch["demo"]` counts in this list."""
        self.setup()
        return self._demos

    @property
    def obs_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shape of one step of each observation: (D,) for low-dim keys, (C, height, width) for images."""
        columns = self._train_dataset.columns
        shapes = {key: columns[f"obs/{key}"].step_shape for key in self._obs_keys}
        for key in self._image_keys:
            height, width, n_channels = columns[f"obs/{key}"].step_shape
            shapes[key] = (n_channels, height, width)
        return shapes

    @property
    def env_meta(self) -> dict[str, Any]:
        """The simulator that made the file, as robomimic writes it (env_args); empty if the file does not say."""
        self.setup()
        return self._env_meta

    def statistics(self) -> dict[str, Statistics]:
        """Compute statistics of each low-dim key and of "actions" over the steps of the training demos."""
        columns = self._train_dataset.columns
        names = {key: f"obs/{key}" for key in self._obs_keys} | {"actions": "actions"}
        return {key: statistics_of(columns[name].episodes()) for key, name in names.items()}

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches of the training windows, shuffled anew each epoch; the last one may be smaller."""
        dataset = self._train_dataset
        return self._loader(dataset, sampler=EpochShuffle(dataset, torch.initial_seed()))

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Batches of the validation windows in the order of the file; none if nothing is held out."""
        self.setup()
        return [] if self._validation is None else self._loader(self._validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """The validation windows, as the format knows no third part; the training windows if nothing is held out.

        A loader there must be: without batches Lightning skips a test altogether, rollouts in the simulator included.
        """
        self.setup()
        if self._validation is None:
            rank_zero_warn(
                "no demonstrations are held out, so that test/action_error is that of the training demonstrations; "
                "set data.init_args.validation_fraction above 0 to hold some out"
            )
        return self.predict_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Batches of the validation windows, or of the training windows if nothing is held out, in file order."""
        train = self._train_dataset
        return self._loader(train if self._validation is None else self._validation)

    @property
    def _train_dataset(self) -> WindowDataset:
        self.setup()
        assert self._train is not None
        return self._train

    def _request(self) -> Request:
        return Request(
            obs_keys=self._obs_keys,
            image_keys=self._image_keys,
            action_dim=self.action_dim,
            next_obs=self._load_next_obs,
            rewards=self._load_rewards,
        )

    def _refuse(self, faults: list[Fault]) -> None:
        if faults:
            others = f" This is 1 of {len(faults)} faults: `difftori data check` lists all." if len(faults) > 1 else ""
            raise DataError(f"{self.file.path}: {faults[0]}{others}")

    def _few(self, demos: list[str]) -> list[str]:
        if self._n_demos is None:
            return demos
        if not 1 <= self._n_demos <= len(demos):
            raise DataError(f"{self.file.path}: n_demos={self._n_demos}, but there are {len(demos)} training demos.")
        return demos[: self._n_demos]

    def _dataset(self, demos: list[str]) -> WindowDataset:
        windows = Windows(
            {demo: self.file.length(demo) for demo in demos},
            horizon=self._horizon,
            n_obs_steps=self._n_obs_steps,
            pad_obs=self._pad_obs,
            pad_horizon=self._pad_horizon,
        )
        columns = {"actions": self._low_dim(demos, "actions")}
        for group in ("obs", "next_obs") if self._load_next_obs else ("obs",):
            columns |= {f"{group}/{key}": self._low_dim(demos, f"{group}/{key}") for key in self._obs_keys}
            columns |= {f"{group}/{key}": self._image(demos, f"{group}/{key}") for key in self._image_keys}
        if self._load_rewards:
            columns["rewards"] = self._low_dim(demos, "rewards")
            columns["dones"] = self._column(demos, "dones", np.bool_, self._cache_low_dim)
        return WindowDataset(windows, columns, self._image_keys, [self._demos.index(demo) for demo in demos])

    def _low_dim(self, demos: list[str], key: str) -> Column:
        return self._column(demos, key, np.float32, self._cache_low_dim)

    def _image(self, demos: list[str], key: str) -> Column:
        return self._column(demos, key, np.uint8, self._cache_images)

    def _column(self, demos: list[str], key: str, dtype: type[np.generic], in_memory: bool) -> Column:
        column = FileColumn(self.file, demos, key, dtype)
        return MemoryColumn(list(column.episodes())) if in_memory else column

    def _loader(self, dataset: WindowDataset, sampler: EpochShuffle | None = None) -> DataLoader[Batch]:
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self._n_workers,
            persistent_workers=self._n_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=as_it_is,
        )
