"""Demonstrations in ManiSkill's format: `ManiSkillDataModule`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.actions.scaling import ScalingMethod
from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.faults import Request
from datamodules.formats.maniskill_file import ManiSkillFile
from datamodules.point_cloud import PointCloudRecipe
from datamodules.windowing.columns import Column, ScaledColumn


class ManiSkillDataModule(DemonstrationDataModule):
    """Windows of ManiSkill1 or ManiSkill2 trajectories, as batches of `datamodules.batch`.

    State files provide the observation `state`. Point-cloud files provide `point_cloud` and, if the recipe enables it,
    `robot_state`. Raw clouds take 64 MB per demo and are reduced on every read: convert such a file once with
    `difftori data convert` and use the result. ManiSkill itself is not required.

    Args:
        path: the HDF5 file; ManiSkill2's JSON file must be next to it.
        action_dim: size of an action, checked against the file.
        task: ManiSkill's name of the task, checked against the file if it contains one; None accepts any task.
        control_mode: the controller of the actions, checked against the file; None accepts any controller.
        cloud: the recipe that turns raw clouds into observations; a converted file must have been made with it.
        obs_dims: size of each low-dim observation (`robot_state` or `state`), checked against the file; None accepts
            any size.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        batch_size: number of windows in a batch, per process.
        validation_fraction: fraction of the demos to hold out; 0 trains on every demo.
        split_seed: seed of the random split.
        n_demos: use only the first `n_demos` training demos.
        fold: train without this fold of the training demos, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        drop_failed: drop failed and empty trajectories instead of refusing the file.
        in_memory: keep all data in memory; clouds take two bytes per number.
        n_workers: number of worker processes per loader.
        action_scaling: how actions outside [-1, 1] become [-1, 1], see
            `datamodules.actions.scaling.ActionScaling.fit`: none, min_max, quantiles or mean_std. Rollouts and a loaded
            policy undo it.
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
    """

    def __init__(
        self,
        path: str,
        action_dim: int,
        task: str | None = None,
        control_mode: str | None = "pd_ee_delta_pose",
        cloud: PointCloudRecipe = PointCloudRecipe(),  # noqa: B008  (immutable)
        obs_dims: dict[str, int] | None = None,
        horizon: int = 1,
        n_obs_steps: int = 1,
        batch_size: int = 256,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        drop_failed: bool = False,
        in_memory: bool = True,
        n_workers: int = 0,
        fold: int | None = None,
        n_folds: int = 2,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.05,
    ) -> None:
        super().__init__(
            ManiSkillFile(path, cloud),
            Request(
                action_dim=action_dim,
                task=task,
                control_mode=control_mode,
                obs_dims=obs_dims,
                drop_failed=drop_failed,
            ),
            horizon=horizon,
            n_obs_steps=n_obs_steps,
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
        self.file: ManiSkillFile
        self._in_memory = in_memory
        self._interface: dict[str, Any] = {}
        self._keys: list[str] = []

    @property
    def interface(self) -> dict[str, Any]:
        """The meaning of observations and actions; a policy refuses data or environments with another interface."""
        return {**super().interface, **self._interface}

    @property
    def _low_dim_keys(self) -> Sequence[str]:
        return [key for key in self._keys if key != "point_cloud"]

    def _keep_metadata(self) -> None:
        self._interface, self._keys = self.file.interface(), self.file.obs_keys()

    def _columns(self, demos: list[str]) -> dict[str, Column]:
        columns: dict[str, Column] = {"actions": self._actions(demos)}
        for key in self._keys:
            is_cloud = key == "point_cloud"
            column = self._column(demos, f"obs/{key}", np.int16 if is_cloud else np.float32, self._in_memory)
            columns[f"obs/{key}"] = ScaledColumn(column, self.file.recipe.scale) if is_cloud else column
        return columns
