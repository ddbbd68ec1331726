"""Demonstrations of Meta-World's scripted experts, in robomimic's HDF5 format: `MetaWorldDataModule`."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from datamodules.formats.robomimic_file import RobomimicFile
from datamodules.robomimic import RobomimicDataModule

ACTION_DIM = 4

CLOUD = "point_cloud"


class MetaWorldFile(RobomimicFile):
    """A robomimic HDF5 file of Meta-World; see `DemoFile`."""

    how_to_get = "Record it: `difftori demos metaworld --task TASK --episodes 50` writes demos/metaworld/TASK.hdf5."


class MetaWorldDataModule(RobomimicDataModule):
    """Windows of what `difftori demos metaworld` recorded; keys and units are those of `difftori_pl.envs.MetaWorld`.

    Args:
        task: Meta-World's name of the task, checked against the file.
        path: the HDF5 file.
        obs_keys: observation keys, among `state`, `agent_pos`, `point_cloud`.
        horizon: steps of a window from the current one on.
        n_obs_steps: steps of a window up to the current one.
        batch_size: windows in a batch.
        validation_fraction: part of the demos held out; 0 trains on every demo.
        split_seed: seed of the split.
        n_demos: train on the first so many training demos only.
        in_memory: keep everything in memory; a step of a cloud of 512 points is 6 kB.
        n_workers: loader processes of each loader.
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
            cache_low_dim=in_memory,
            n_workers=n_workers,
            cloud_keys=(CLOUD,),
        )
        self.file = MetaWorldFile(path)
        self._request = replace(self._request, task=task)

    @property
    def interface(self) -> dict[str, Any]:
        """What observations and actions mean; a policy refuses data or environments that disagree with its own."""
        cloud = self.env_meta.get("env_kwargs", {}).get("cloud")
        return {"env_id": self._request.task} | (cloud if cloud and CLOUD in self._obs_keys else {})
