"""Demonstrations in ManiSkill's format: `ManiSkillDataModule`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from datamodules.demonstrations import DemonstrationDataModule
from datamodules.formats.faults import Request
from datamodules.formats.maniskill_file import ManiSkillFile
from datamodules.point_cloud import PointCloudRecipe
from datamodules.windowing.columns import Column, ScaledColumn


class ManiSkillDataModule(DemonstrationDataModule):
    """Windows of ManiSkill1's or ManiSkill2's trajectories, as batches of `datamodules.batch`.

    A file of states delivers the observation `state`; one of point clouds delivers `point_cloud` and, if the recipe
    says so, `robot_state`. Raw clouds are 64 MB a demo and are cut down while they are read: convert the file once
    with `difftori data convert`, and give the result here. ManiSkill itself is not needed.

    Args:
        path: the HDF5 file; ManiSkill2's JSON file lies beside it.
        action_dim: number of action coordinates, checked against the file.
        task: ManiSkill's name of the task, checked against the file where it says; None for any.
        control_mode: the controller that the actions are for, checked against the file; None for any.
        cloud: how raw clouds become observations; what a converted file was made by must be the same.
        obs_dims: size of each low-dimensional observation (`robot_state`, or `state`), checked against the file; None
            for any.
        horizon: steps of a window from the current one on.
        n_obs_steps: steps of a window up to the current one.
        batch_size: windows in a batch.
        validation_fraction: part of the demos held out; 0 trains on every demo.
        split_seed: seed of the split.
        n_demos: train on the first so many training demos only.
        drop_failed: leave failed and empty trajectories out, instead of refusing the file.
        in_memory: keep everything in memory, clouds as two bytes a number.
        n_workers: loader processes of each loader.
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
            n_workers=n_workers,
        )
        # As in `RobomimicDataModule`: the model may have arguments of the same name.
        self.save_hyperparameters(logger=False)
        self.file: ManiSkillFile
        self._in_memory = in_memory
        self._interface: dict[str, Any] = {}
        self._keys: list[str] = []

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean; a policy refuses data or environments that disagree with its own."""
        self.setup()
        return self._interface

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
