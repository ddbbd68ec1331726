"""Demonstrations in robomimic's HDF5 format: `RobomimicDataModule`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from datamodules.actions.robosuite_control import KEY as CONTROL_DELTA
from datamodules.actions.robosuite_version import KEY as ROBOSUITE
from datamodules.actions.robosuite_version import recorded_generation
from datamodules.actions.scaling import ScalingMethod
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.errors import DataError
from datamodules.formats.faults import Request
from datamodules.formats.robomimic_file import RobomimicFile
from datamodules.windowing.columns import Column
from datamodules.windowing.frame_cache import FrameCache


class RobomimicDataModule(DemonstrationDataModule):
    """Windows of robomimic demonstrations, as batches of `datamodules.batch`.

    The windows and their order match robomimic 0.3.0's `SequenceDataset`. See `DemonstrationDataModule` for the rest.

    Args:
        path: the HDF5 file.
        obs_keys: low-dim observation keys, e.g. "object"; for nested groups, paths such as "policy/joint_pos".
        action_dim: size of an action in the file, which is checked.
        image_keys: image observation keys, e.g. "agentview_image".
        horizon: number of steps in a window from the current step on, including it; robomimic's seq_length.
        n_obs_steps: number of steps in a window up to the current step, including it; robomimic's frame_stack.
        pad_obs: pad windows that begin before the demo.
        pad_horizon: pad windows that end after the demo.
        batch_size: number of windows in a batch, per process.
        train_filter: filter key (`mask/<key>`) of the training demos.
        validation_filter: filter key of the validation demos.
        validation_fraction: fraction of the demos to hold out when no filter selects them; 0 trains on every demo.
        split_seed: seed of the split when no filter selects the demos.
        n_demos: use only the first `n_demos` training demos.
        fold: train without this fold of the training demos, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        cache_low_dim: keep everything but images in memory (robomimic's cache mode "low_dim").
        cache_images: keep images in memory as well (robomimic's "all").
        load_next_obs: deliver `next_obs`.
        load_rewards: deliver `rewards` and `dones`.
        n_workers: number of worker processes per loader.
        cloud_keys: keys among `obs_keys` that hold point clouds (points, channels).
        frame_cache: folder in which images are stored uncompressed at the first use, see `FrameCache`; reading a
            window from it decompresses nothing. None reads the HDF5 file.
        action_scaling: how actions outside [-1, 1] become [-1, 1], see
            `datamodules.actions.scaling.ActionScaling.fit`: none, min_max, quantiles or mean_std. Rollouts and a loaded
            policy undo it.
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
        action_rotations: first component of each axis-angle vector in the file's actions: [3] for an arm with absolute
            poses, [3, 10] for two. The policy gets six continuous numbers instead, so `action_dim` of the model is
            three larger for each.
        action_key: name of the array of actions: `actions`, or `actions_abs`, which robomimic's
            `robosuite_add_absolute_actions.py` adds.
        control_delta: whether these actions are displacements or absolute poses (False). None follows the file's
            `env_args`, which are still those of displacements in robomimic's and Diffusion Policy's files of absolute
            poses.

    Raises:
        DataError: both `cache_images` and `frame_cache` are set.
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
        cloud_keys: Sequence[str] = (),
        frame_cache: str | None = None,
        fold: int | None = None,
        n_folds: int = 2,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.05,
        action_rotations: Sequence[int] = (),
        action_key: str = "actions",
        control_delta: bool | None = None,
    ) -> None:
        if cache_images and frame_cache is not None:
            raise DataError(
                "expected cache_images or frame_cache, got both: set cache_images to false to read the images from "
                "frame_cache."
            )
        super().__init__(
            RobomimicFile(path, action_key, control_delta),
            Request(obs_keys, image_keys, action_dim, load_next_obs, load_rewards),
            horizon=horizon,
            n_obs_steps=n_obs_steps,
            pad_obs=pad_obs,
            pad_horizon=pad_horizon,
            batch_size=batch_size,
            filters=(train_filter, validation_filter),
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
        # Do not log: the model may have arguments of the same name with other values (its planning horizon), and
        # Lightning refuses to log both.
        self.save_hyperparameters(logger=False)
        self.file: RobomimicFile
        self._obs_keys, self._cloud_keys = tuple(obs_keys), frozenset(cloud_keys)
        self._cache_low_dim, self._cache_images = cache_low_dim, cache_images
        self._frame_cache = frame_cache
        self._load_next_obs, self._load_rewards = load_next_obs, load_rewards
        self._env_meta: dict[str, Any] = {}
        self._control_delta: bool | None = None

    @property
    def env_meta(self) -> dict[str, Any]:
        """The simulator and task in robomimic's format (env_args); empty if the file does not contain them."""
        self.setup()
        return self._env_meta

    @property
    def interface(self) -> Mapping[str, Any]:
        """The units of the actions, whether they are displacements, and the generation of robosuite, if known."""
        known = {ROBOSUITE: recorded_generation(self.env_meta), CONTROL_DELTA: self._control_delta}
        return {**super().interface, **{name: value for name, value in known.items() if value is not None}}

    @property
    def _low_dim_keys(self) -> Sequence[str]:
        return [key for key in self._obs_keys if key not in self._cloud_keys]

    def _keep_metadata(self) -> None:
        self._env_meta = self.file.env_meta()
        self._control_delta = self.file.control_delta()

    def _columns(self, demos: list[str]) -> dict[str, Column]:
        columns: dict[str, Column] = {"actions": self._actions(demos, self._cache_low_dim)}
        for group in ("obs", "next_obs") if self._load_next_obs else ("obs",):
            columns |= {f"{group}/{key}": self._low_dim(demos, f"{group}/{key}") for key in self._obs_keys}
            columns |= {f"{group}/{key}": self._image(demos, f"{group}/{key}") for key in self._image_keys}
        if self._load_rewards:
            columns["rewards"] = self._low_dim(demos, "rewards")
            columns["dones"] = self._column(demos, "dones", np.bool_, self._cache_low_dim)
        return columns

    def _low_dim(self, demos: list[str], key: str) -> Column:
        return self._column(demos, key, np.float32, self._cache_low_dim)

    def _image(self, demos: list[str], key: str) -> Column:
        if self._frame_cache is not None:
            return FrameCache(self._frame_cache, self.fingerprint["sha256"], self.file, key, None).column(demos)
        return self._column(demos, key, np.uint8, self._cache_images)
