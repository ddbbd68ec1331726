"""Demonstrations of Meta-World's scripted experts in robomimic's HDF5 format: `MetaWorldDataModule`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datamodules.actions.scaling import ScalingMethod
from datamodules.formats.robomimic_file import RobomimicFile
from datamodules.robomimic import RobomimicDataModule

ACTION_DIM = 4

CLOUD = "point_cloud"


class MetaWorldFile(RobomimicFile):
    """A robomimic HDF5 file of Meta-World; see `DemoFile`."""

    how_to_get = "Record it: `difftori demos metaworld --task TASK --episodes 50` writes demos/metaworld/TASK.hdf5."


class MetaWorldDataModule(RobomimicDataModule):
    """Windows of demonstrations from `difftori demos metaworld`; see `difftori_pl.envs.MetaWorld` for keys and units.

    Args:
        task: Meta-World's name of the task, checked against the file.
        path: the HDF5 file.
        obs_keys: observation keys out of `state`, `agent_pos`, `point_cloud`.
        horizon: number of steps in a window from the current step on, including it.
        n_obs_steps: number of steps in a window up to the current step, including it.
        batch_size: number of windows in a batch, per process.
        validation_fraction: fraction of the demos to hold out; 0 trains on every demo.
        split_seed: seed of the random split.
        n_demos: use only the first `n_demos` training demos.
        fold: train without this fold of the training demos, from 0; None trains on all of them.
        n_folds: number of folds, drawn with `split_seed`.
        in_memory: keep all data in memory; a cloud of 512 points takes 6 kB per step.
        n_workers: number of worker processes per loader.
        action_scaling: how actions outside [-1, 1] become [-1, 1], see
            `datamodules.actions.scaling.ActionScaling.fit`: none, min_max, quantiles or mean_std. Rollouts and a loaded
            policy undo it.
        action_margin: fraction by which the range of the training actions is enlarged before scaling.
    """

    def __init__(
        self,
        task: str,
        path: str,
        obs_keys: Sequence[str] = ("agent_pos", CLOUD),
        horizon: int = 16,
        n_obs_steps: int = 1,
        batch_size: int = 128,
        validation_fraction: float = 0.1,
        split_seed: int = 0,
        n_demos: int | None = None,
        in_memory: bool = True,
        n_workers: int = 0,
        fold: int | None = None,
        n_folds: int = 2,
        action_scaling: ScalingMethod = "none",
        action_margin: float = 0.05,
    ) -> None:
        super().__init__(
            path,
            list(obs_keys),
            ACTION_DIM,
            horizon=horizon,
            n_obs_steps=n_obs_steps,
            batch_size=batch_size,
            validation_fraction=validation_fraction,
            split_seed=split_seed,
            n_demos=n_demos,
            fold=fold,
            n_folds=n_folds,
            cache_low_dim=in_memory,
            n_workers=n_workers,
            cloud_keys=(CLOUD,),
            action_scaling=action_scaling,
            action_margin=action_margin,
        )
        self.file = MetaWorldFile(path)
        self._request = replace(self._request, task=task)

    @property
    def interface(self) -> dict[str, Any]:
        """The meaning of observations and actions; a policy refuses data or environments with another interface."""
        cloud = self.env_meta.get("env_kwargs", {}).get("cloud")
        known = {**super().interface, "env_id": self._request.task}
        return known | (cloud if cloud and CLOUD in self._obs_keys else {})
