"""LeRobot data sets: `LeRobotDataModule`."""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.actions.scaling import ScalingMethod
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.errors import DataError
from datamodules.formats.faults import Request
from datamodules.formats.lerobot_file import TASK, LeRobotFile
from datamodules.windowing.columns import Column
from datamodules.windowing.frame_cache import DEFAULT_FOLDER, FrameCache


class LeRobotDataModule(DemonstrationDataModule):
    """Windows of a LeRobot data set (format v2.0, v2.1 or v3.0), as batches of `datamodules.batch`.

    The keys of observations are LeRobot's names without "observation." and with underscores instead of dots: `state`
    for `observation.state`, `images_front` for `observation.images.front`. A loaded policy accepts both. Images are
    decoded once, see `FrameCache`. Each demo is an episode.

    Args:
        path: the folder of the data set, which contains `meta/info.json`; never written.
        action_dim: size of an action in the data set, which is checked.
        obs_keys: keys of vectors; `task` is the task index as a one-hot vector.
        image_keys: keys of cameras.
        image_size: height and width to scale the images of all cameras to, or one number for both; None keeps the
            stored sizes.
        action_scaling: how the data's units become [-1, 1], see `datamodules.actions.scaling.ActionScaling.fit`: none,
            min_max, quantiles or mean_std. A loaded policy returns actions in the data's units.
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
        action_rotations: first component of each axis-angle vector in the file's actions: [3] for an arm with absolute
            poses, [3, 10] for two. The policy gets six continuous numbers instead, so `action_dim` of the model is
            three larger for each.
        task_filter: use only episodes of this task string; None uses all.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        pad_obs: pad windows that begin before the episode.
        pad_horizon: pad windows that end after the episode.
        batch_size: number of windows in a batch, per process.
        validation_fraction: fraction of the episodes to hold out; 0 trains on every episode.
        split_seed: seed of the random split.
        n_demos: use only the first `n_demos` training episodes.
        fold: train without this fold of the training episodes, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        frame_cache: folder of the decoded images of all data sets; it can be deleted.
        n_workers: number of worker processes per loader.

    Raises:
        DataError: a number is out of range.
    """

    def __init__(
        self,
        path: str,
        action_dim: int,
        obs_keys: Sequence[str] = ("state",),
        image_keys: Sequence[str] = (),
        image_size: int | tuple[int, int] | None = None,
        action_scaling: ScalingMethod = "min_max",
        action_margin: float = 0.05,
        action_rotations: Sequence[int] = (),
        task_filter: str | None = None,
        horizon: int = 10,
        n_obs_steps: int = 1,
        pad_obs: bool = True,
        pad_horizon: bool = True,
        batch_size: int = 100,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        frame_cache: str = DEFAULT_FOLDER,
        n_workers: int = 0,
        fold: int | None = None,
        n_folds: int = 2,
    ) -> None:
        size = (image_size, image_size) if isinstance(image_size, int) else image_size
        if size is not None and min(size) < 1:
            raise DataError(f"image_size must be at least 1, got {image_size}.")
        super().__init__(
            LeRobotFile(path),
            Request(obs_keys, image_keys, action_dim),
            horizon=horizon,
            n_obs_steps=n_obs_steps,
            pad_obs=pad_obs,
            pad_horizon=pad_horizon,
            batch_size=batch_size,
            filters=(task_filter, None),
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            n_demos=n_demos,
            fold=fold,
            n_folds=n_folds,
            n_workers=n_workers,
            action_scaling=action_scaling,
            action_margin=action_margin,
            action_rotations=action_rotations,
        )
        self.save_hyperparameters(logger=False)
        self.file: LeRobotFile
        self._obs_keys, self._size, self._frame_cache = tuple(obs_keys), size, frame_cache
        self._interface: dict[str, Any] = {}

    @property
    def interface(self) -> Mapping[str, Any]:
        """LeRobot's name of each observation, the task strings, the frames per second, and the scaling of actions."""
        return {**super().interface, **self._interface}

    def _keep_metadata(self) -> None:
        meta = self.file.meta
        keys = [key for key in (*self._obs_keys, *self._image_keys) if key != TASK]
        self._interface = {"fps": meta.fps, **{f"obs/{key}": meta.observations[key].name for key in keys}}
        if TASK in self._obs_keys:
            self._interface["tasks"] = list(meta.tasks)

    def _images(self, demos: list[str], name: str) -> Column:
        return FrameCache(self._frame_cache, self.fingerprint["sha256"], self.file, name, self._size).column(demos)
