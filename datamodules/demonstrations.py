"""The base class of the demonstration datamodules: split, windows, statistics and loaders."""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.actions.scaling import ScalingMethod
from datamodules.actions.units import ActionUnits, check_rotations
from datamodules.batch import Batch, DataModule, Fold
from datamodules.errors import DataError, check_at_least
from datamodules.formats.damage import verify_check_sums
from datamodules.formats.demo_file import DemoFile
from datamodules.formats.faults import Fault, Request
from datamodules.formats.fingerprint import Fingerprint, fingerprint
from datamodules.observation_spec import ObservationSpec
from datamodules.windowing.columns import ClippedColumn, Column, FileColumn, MemoryColumn
from datamodules.windowing.loaders import death_of_a_worker, in_order, shuffled
from datamodules.windowing.selection import DemoSelection
from datamodules.windowing.statistics import Statistics, statistics_of
from datamodules.windowing.window_dataset import WindowDataset
from datamodules.windowing.windows import Windows


class DemonstrationDataModule(DataModule):
    """Base class: deliver windows of the demonstrations in a file as batches of `datamodules.batch`.

    `datamodules.windowing.split` splits the demos into training and validation demos. The training order depends only
    on the seed of `seed_everything` and on the epoch.

    Args:
        file: the file of demonstrations.
        request: the data required from the file; `action_dim`, the size of an action in the file, must be set.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        pad_obs: pad windows that begin before the demo.
        pad_horizon: pad windows that end after the demo.
        batch_size: number of windows in a batch, per process.
        filters: filter keys of the training demos and of the validation demos.
        validation_fraction: fraction of the demos to hold out when no filter selects them; 0 trains on every demo.
        split_seed: seed of the split when no filter selects the demos.
        n_demos: use only the first `n_demos` training demos.
        n_workers: number of worker processes per loader.
        action_scaling: how to scale actions to [-1, 1], see `ActionScaling.fit`; none for actions in [-1, 1].
        action_margin: fraction by which the range of the actions is enlarged before scaling.
        fold: train without this fold of the training demos, from 0, for `CrossFitted`; None trains on all of them. The
            validation demos and the scaling of the actions do not depend on it.
        n_folds: number of folds, into which the training demos are divided at random with `split_seed`.
        action_rotations: first component of each axis-angle vector in an action; see `ActionUnits`.

    Attributes:
        action_dim: size of an action in a batch; three larger than in the file for each rotation.

    Raises:
        DataError: a number is out of range.
    """

    @abstractmethod  # each format makes its file
    def __init__(
        self,
        file: DemoFile,
        request: Request,
        horizon: int,
        n_obs_steps: int,
        pad_obs: bool = True,
        pad_horizon: bool = True,
        batch_size: int = 100,
        filters: tuple[str | None, str | None] = (None, None),
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        n_workers: int = 0,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.0,
        fold: int | None = None,
        n_folds: int = 2,
        action_rotations: Sequence[int] = (),
    ) -> None:
        super().__init__()
        check_at_least(1, action_dim=request.action_dim, horizon=horizon, n_obs_steps=n_obs_steps)
        check_at_least(1, batch_size=batch_size)
        check_at_least(0, n_workers=n_workers, action_margin=action_margin)
        self.file = file
        assert request.action_dim is not None
        check_rotations(action_rotations, request.action_dim)
        self.action_dim = request.action_dim + 3 * len(action_rotations)
        self.batch_size = batch_size
        self._request = replace(request, unscaled_actions=action_scaling == "none")
        self._windows = partial(
            Windows, horizon=horizon, n_obs_steps=n_obs_steps, pad_obs=pad_obs, pad_horizon=pad_horizon
        )
        self._image_keys = tuple(request.image_keys or ())
        self._selection = DemoSelection(filters, validation_fraction, split_seed, n_demos, fold, n_folds)
        self._n_workers = n_workers
        self._action_scaling: tuple[ScalingMethod, float] = action_scaling, action_margin
        self._units = ActionUnits(rotations=tuple(action_rotations))
        self._train: WindowDataset | None = None
        self._validation: WindowDataset | None = None
        self._demos: list[str] = []
        self._training_demos: list[str] = []
        self._left_out: Fold | None = None
        self._task = ""
        self._fingerprint: Fingerprint | None = None

    def _columns(self, demos: list[str]) -> dict[str, Column]:
        """Return the columns of these demos by name: "actions", "obs/<key>", ...; vectors are kept in memory."""
        vectors, images = ([f"obs/{key}" for key in keys] for keys in (self._low_dim_keys, self._image_keys))
        columns: dict[str, Column] = {"actions": self._actions(demos)}
        columns |= {name: self._column(demos, name, np.float32, True) for name in vectors}
        return columns | {name: self._images(demos, name) for name in images}

    def _images(self, demos: list[str], name: str) -> Column:
        """Return the column of a camera; by default each window is read from the file."""
        return self._column(demos, name, np.uint8, False)

    @property
    def _low_dim_keys(self) -> Sequence[str]:
        """The observation keys that `statistics` covers."""
        return tuple(self._request.obs_keys or ())

    @property
    def obs_specs(self) -> dict[str, ObservationSpec]:
        """Kind, shape and dtype of each observation; `statistics` covers those of the kind vector."""
        columns = self._train_dataset.columns
        return {
            name.removeprefix("obs/"): self._spec(name.removeprefix("obs/"), column.step_shape)
            for name, column in columns.items()
            if name.startswith("obs/")
        }

    def _spec(self, key: str, stored_shape: tuple[int, ...]) -> ObservationSpec:
        if key in self._image_keys:
            height, width, n_channels = stored_shape
            return ObservationSpec.image(n_channels, height, width)
        return (ObservationSpec.vector if key in self._low_dim_keys else ObservationSpec.point_cloud)(*stored_shape)

    def look_at_file(self) -> None:
        """Open and close the file, which takes no time, unlike `setup`.

        Raises:
            DataError: the file does not exist or cannot be opened.
        """
        try:
            with self.file.clear_errors():
                _ = self.file.handle
        finally:
            self.file.close()

    def setup(self, stage: str | None = None) -> None:
        """Check the file against the arguments and load the columns that are kept in memory.

        Repeated calls do nothing. If `<file>.sha256` exists, the file is compared with it first.

        Raises:
            DataError: the file cannot be used; the message names the first fault.
        """
        if self._train is not None:
            return
        try:
            with self.file.clear_errors():
                self._load()
        finally:
            # Worker processes must not inherit an open handle.
            self.file.close()

    def _load(self) -> None:
        verify_check_sums(self.file.path)
        self._refuse(list(self.file.file_faults(self._request)))
        self._demos = self.file.usable(self._request)
        n_left_out = len(self.file.demos()) - len(self._demos)
        if n_left_out:
            rank_zero_info(f"{self.file.path}: left out {n_left_out} failed or empty demos")
        self._task = self.file.env_name()
        train, validation = self._selection.split(self.file, self._demos)
        self._refuse(self.file.demo_faults([*train, *validation], self._request))
        self._keep_metadata()
        self._units = self._fit_units(train)
        train, self._left_out = self._selection.without_fold(self.file, train)
        self._training_demos = train
        datasets = self._dataset(train), self._dataset(validation) if validation else None
        self._train, self._validation = datasets

    def _keep_metadata(self) -> None:
        """Copy the metadata that a subclass needs while the file is open."""

    @property
    def demos(self) -> list[str]:
        """The names of all usable demos of the file; `batch["demo"]` indexes this list."""
        self.setup()
        return self._demos

    @property
    def training_demos(self) -> list[str]:
        """The names of the training demos."""
        self.setup()
        return self._training_demos

    @property
    def holds_out(self) -> bool:
        """Whether demos are held out for validation."""
        self.setup()
        return self._validation is not None

    @property
    def left_out(self) -> Fold | None:
        """The fold that is left out, which checkpoints store; None without `fold`."""
        self.setup()
        return self._left_out

    @property
    def task(self) -> str:
        """The simulator's name of the task; empty if the file does not contain one."""
        self.setup()
        return self._task

    @property
    def interface(self) -> Mapping[str, Any]:
        """The units of the actions, see `ActionUnits.record`; rollouts and a loaded policy undo them."""
        self.setup()
        return self._units.record()

    @property
    def fingerprint(self) -> Fingerprint:
        """The fingerprint of the file, which checkpoints store."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint(self.file.path)
        return self._fingerprint

    def statistics(self) -> dict[str, Statistics]:
        """Compute statistics of each low-dim key and of "actions" over all steps of the training demos.

        Those of the actions are in scaled units.

        Raises:
            DataError: a column has no steps or a value that float32 cannot hold.
        """
        columns = self._train_dataset.columns
        names = {key: f"obs/{key}" for key in self._low_dim_keys} | {"actions": "actions"}
        found = {}
        for key, name in names.items():
            try:
                found[key] = statistics_of(columns[name].episodes())
            except DataError as error:
                raise DataError(f"{self.file.path}: {key}: {error}") from error
        return found

    def train_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of the training windows, reshuffled every epoch; the last batch may be smaller.

        With several processes, each gets its share of the windows; see `EpochShuffle`.
        """
        dataset = self._train_dataset
        trainer: Any = self.trainer
        rank, n_ranks = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        return shuffled(dataset, self.batch_size, self._n_workers, rank, n_ranks)

    def val_dataloader(self) -> DataLoader[Batch] | list[DataLoader[Batch]]:
        """Return a loader of the validation windows in file order, or no loader if no demo is held out."""
        self.setup()
        return [] if self._validation is None else self._loader(self._validation)

    def test_dataloader(self) -> DataLoader[Batch]:
        """Return a loader of the validation windows, or of the training windows if no demo is held out.

        The formats have no separate test split. The loader must not be empty: Lightning skips the whole test without
        batches, including the rollouts in the simulator.
        """
        self.setup()
        if self._validation is None:
            rank_zero_warn(
                "no demonstrations are held out: test/action_error is computed on the training demonstrations. "
                "Set data.init_args.validation_fraction above 0 to hold some out."
            )
        return self.predict_dataloader()

    def predict_dataloader(self) -> DataLoader[Batch]:
        """Return a loader, in file order, of the validation windows, or of the training windows if there are none."""
        train = self._train_dataset
        return self._loader(train if self._validation is None else self._validation)

    def held_out_episodes(self) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
        """Iterate over the validation episodes, or the training episodes if there are none.

        Returns:
            Observations key -> (T, ...), as in the batches, and actions (T, A) without scaling and clipping.
        """
        train = self._train_dataset
        for number, observations in (train if self._validation is None else self._validation).episodes():
            actions = self.file.read(self._demos[number], "actions").astype(np.float32)
            yield observations, torch.from_numpy(actions)

    def on_exception(self, exception: BaseException) -> None:
        """Turn the death of a loader process into an error with advice.

        Raises:
            DataError: a loader process died.
        """
        if reason := death_of_a_worker(exception):
            raise DataError(
                f"a loader process died ({reason}), most likely for lack of memory: lower data.init_args.n_workers "
                "or do not keep images in memory, and resume from the last checkpoint"
            ) from exception

    @property
    def _train_dataset(self) -> WindowDataset:
        self.setup()
        assert self._train is not None
        return self._train

    def _refuse(self, faults: Sequence[Fault]) -> None:
        if faults:
            others = f" This is 1 of {len(faults)} faults: `difftori data check` lists them." if len(faults) > 1 else ""
            raise DataError(f"{self.file.path}: {faults[0]}{others}")

    def _dataset(self, demos: list[str]) -> WindowDataset:
        windows = self._windows({demo: self.file.length(demo) for demo in demos})
        numbers = [self._demos.index(demo) for demo in demos]
        return WindowDataset(windows, self._columns(demos), self._image_keys, numbers)

    def _fit_units(self, train: list[str]) -> ActionUnits:
        method, margin = self._action_scaling
        if method == "none":
            return self._units
        actions = np.concatenate([self.file.read(demo, "actions") for demo in train])
        try:
            return ActionUnits.fit(method, self._units.rotations, actions, margin)
        except DataError as error:
            raise DataError(f"{self.file.path}: {error}") from error

    def _actions(self, demos: list[str], in_memory: bool = True) -> Column:
        if self._units != ActionUnits():
            return MemoryColumn([self._units.to_policy(self.file.read(demo, "actions")) for demo in demos])
        return ClippedColumn(self._column(demos, "actions", np.float32, in_memory))

    def _column(self, demos: list[str], key: str, dtype: npt.DTypeLike, in_memory: bool) -> Column:
        column = FileColumn(self.file, demos, key, dtype)
        return MemoryColumn(list(column.episodes())) if in_memory else column

    def _loader(self, dataset: WindowDataset) -> DataLoader[Batch]:
        return in_order(dataset, self.batch_size, self._n_workers)
