"""Demonstrations in ManiSkill3's format: `ManiSkill3DataModule`."""

from collections.abc import Mapping, Sequence
from typing import Any

from datamodules.actions.scaling import ScalingMethod
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.faults import Request
from datamodules.formats.maniskill3_file import ManiSkill3File
from datamodules.windowing.columns import Column
from datamodules.windowing.frame_cache import FrameCache


class ManiSkill3DataModule(DemonstrationDataModule):
    """Windows of ManiSkill3 trajectories with states or images, as batches of `datamodules.batch`.

    Keys are the paths below `obs`: `agent/qpos`, `extra/tcp_pose`, `sensor_data/base_camera/rgb`; `state` for the flat
    vectors of the observation mode `state`. `difftori data check FILE` lists them. ManiSkill itself is not required.

    Args:
        path: the HDF5 file; ManiSkill's JSON file must be next to it.
        action_dim: size of an action, checked against the file.
        obs_keys: keys of vectors; an array (steps,), such as `extra/is_grasped`, is a vector of size 1.
        image_keys: keys of RGB images.
        task: ManiSkill's name of the task, checked against the file; None accepts any task.
        control_mode: the controller of the actions, checked against the file; None accepts any controller.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        pad_obs: pad windows that begin before the trajectory.
        pad_horizon: pad windows that end after the trajectory.
        batch_size: number of windows in a batch, per process.
        validation_fraction: fraction of the demos to hold out; 0 trains on every demo.
        split_seed: seed of the random split.
        n_demos: use only the first `n_demos` training demos.
        drop_failed: drop failed and empty trajectories instead of refusing the file.
        frame_cache: folder in which images are stored uncompressed at the first use, see `FrameCache`; None
            decompresses the HDF5 file for each window.
        n_workers: number of worker processes per loader.
        fold: train without this fold of the training demos, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        action_scaling: how actions outside [-1, 1] become [-1, 1], see
            `datamodules.actions.scaling.ActionScaling.fit`: none, min_max, quantiles or mean_std. Absolute controllers
            (`pd_joint_pos`) need it; those whose name contains `delta` take [-1, 1].
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
    """

    def __init__(
        self,
        path: str,
        action_dim: int,
        obs_keys: Sequence[str],
        image_keys: Sequence[str] = (),
        task: str | None = None,
        control_mode: str | None = None,
        horizon: int = 10,
        n_obs_steps: int = 1,
        pad_obs: bool = True,
        pad_horizon: bool = True,
        batch_size: int = 100,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        drop_failed: bool = False,
        frame_cache: str | None = None,
        n_workers: int = 0,
        fold: int | None = None,
        n_folds: int = 2,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.05,
    ) -> None:
        super().__init__(
            ManiSkill3File(path),
            Request(obs_keys, image_keys, action_dim, task=task, control_mode=control_mode, drop_failed=drop_failed),
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
        # Do not log, as in `RobomimicDataModule`: the model may have arguments of the same name.
        self.save_hyperparameters(logger=False)
        self.file: ManiSkill3File
        self._frame_cache = frame_cache
        self._interface: dict[str, Any] = {}

    @property
    def interface(self) -> Mapping[str, Any]:
        """The task, the controller and the scaling of actions; a policy refuses data or environments with others."""
        return {**super().interface, **self._interface}

    def _keep_metadata(self) -> None:
        self._interface = self.file.interface()

    def _images(self, demos: list[str], name: str) -> Column:
        if self._frame_cache is not None:
            return FrameCache(self._frame_cache, self.fingerprint["sha256"], self.file, name, None).column(demos)
        return super()._images(demos, name)
