"""Human demonstrations of Push-T, in Diffusion Policy's zarr format: `PushTDataModule`."""

from collections.abc import Sequence

import numpy as np

from datamodules.actions.scaling import ScalingMethod
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.errors import DataError
from datamodules.formats.faults import Request
from datamodules.formats.pusht_file import SOURCES, PushTFile
from datamodules.windowing.columns import Column
from datamodules.windowing.frame_cache import FrameCache

ACTION_DIM = 2


class PushTDataModule(DemonstrationDataModule):
    """Windows of the public Push-T demonstrations; see `PushTFile` for units and keys.

    Args:
        path: the folder `pusht_cchi_v7_replay.zarr`, or the same folder as a `.zarr.zip` file; never written.
        obs_keys: low-dim observation keys out of `state`, `keypoint`, `agent_pos`.
        image_keys: `[img]` or empty.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        pad_obs: pad windows that begin before the demo.
        pad_horizon: pad windows that end after the demo.
        batch_size: number of windows in a batch, per process.
        validation_fraction: fraction of the demos to hold out; 0 trains on every demo.
        split_seed: seed of the random split.
        n_demos: use only the first `n_demos` training demos.
        fold: train without this fold of the training demos, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        image_max: the value of white in the file's images, 255 or 1.
        cache_images: keep images in memory (0.6 GB); otherwise reading one window decompresses 500 images.
        n_workers: number of worker processes per loader.
        frame_cache: folder in which images are stored uncompressed at the first use, see `FrameCache`; it replaces
            `cache_images`, needs no memory, and is shared by all processes. None uses no such folder.
        action_scaling: how the actions, in [-1, 1] over the whole board, are scaled further, see
            `datamodules.actions.scaling.ActionScaling.fit`: none, min_max, quantiles or mean_std. Rollouts and a loaded
            policy undo it.
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
    """

    def __init__(
        self,
        path: str,
        obs_keys: Sequence[str] = ("keypoint", "agent_pos"),
        image_keys: Sequence[str] = (),
        horizon: int = 10,
        n_obs_steps: int = 1,
        pad_obs: bool = True,
        pad_horizon: bool = True,
        batch_size: int = 100,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        image_max: float = 255.0,
        cache_images: bool = True,
        n_workers: int = 0,
        fold: int | None = None,
        n_folds: int = 2,
        frame_cache: str | None = None,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.05,
    ) -> None:
        unknown = [key for key in (*obs_keys, *image_keys) if f"obs/{key}" not in SOURCES]
        if unknown or "img" in obs_keys or set(image_keys) - {"img"}:
            raise DataError(
                "expected obs_keys out of state, keypoint and agent_pos and image_keys out of img, got "
                f"obs_keys={list(obs_keys)} and image_keys={list(image_keys)}."
            )
        super().__init__(
            PushTFile(path, image_max),
            Request(obs_keys, image_keys, ACTION_DIM),
            horizon=horizon,
            n_obs_steps=n_obs_steps,
            pad_obs=pad_obs,
            pad_horizon=pad_horizon,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            n_demos=n_demos,
            fold=fold,
            n_folds=n_folds,
            n_workers=n_workers,
            action_scaling=action_scaling,
            action_margin=action_margin,
        )
        self.save_hyperparameters(logger=False)
        self.file: PushTFile
        self._cache_images, self._frame_cache = cache_images, frame_cache

    def _images(self, demos: list[str], key: str) -> Column:
        if self._frame_cache is None:
            return self._column(demos, key, np.uint8, self._cache_images)
        identity = f"{self.file.image_max:g}_{self.fingerprint['sha256']}"  # the pixels depend on both
        return FrameCache(self._frame_cache, identity, self.file, key, None).column(demos)
