"""The `gymnasium` environment that wraps a ManiSkill2 task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import checked_action
from difftori_pl.envs.maniskill_import import make_task
from difftori_pl.envs.seeded import Obs, SeededEnv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from datamodules.point_cloud import PointCloudRecipe


class ManiSkillEnv(SeededEnv):
    """A ManiSkill2 task that terminates at success, with the observations of `ManiSkillDataModule`.

    Build it with `difftori_pl.envs.ManiSkill`.

    Args:
        task: ManiSkill2's name of the task.
        control_mode: the controller.
        cloud: how point clouds are processed; None observes the state vector.
        max_episode_steps: steps after which an episode is truncated.
        shader: `ibl` or `trivial`.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        control_mode: str,
        cloud: PointCloudRecipe | None,
        max_episode_steps: int,
        shader: str,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.task = task
        self.cloud = cloud
        mode = "pointcloud" if cloud else "state"
        self.maniskill = make_task(task, mode, control_mode, max_episode_steps, shader)
        self._episode_seed = seed
        self._n_steps = 0
        self.action_space = self.maniskill.action_space
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(-np.inf, np.inf, value.shape, np.float32)
                for key, value in self.reset()[0].items()
            }
        )

    @property
    def interface(self) -> dict[str, Any]:
        """Names of the cameras in the order of their points, if clouds are observed; the recipe has the rest."""
        return {"cameras": list(self.maniskill.unwrapped._cameras)} if self.cloud else {}

    def _start(self, seed: int) -> Obs:
        self._episode_seed = seed
        self._n_steps = 0
        raw, _ = self.maniskill.reset(seed=seed)
        return self._observe(raw)

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act for one control period (0.05 s).

        Args:
            action: (A,) in [-1, 1].

        Returns:
            the observation; ManiSkill2's dense reward; whether the episode terminated with success; whether it was
            truncated; and ManiSkill2's `info`, with `success`.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        command = checked_action(action, self.action_space.shape, self.task).astype(np.float32)
        raw, reward, terminated, truncated, info = self.maniskill.step(command)
        self._n_steps += 1
        return self._observe(raw), float(reward), bool(terminated), bool(truncated), dict(info)

    def observe_state(self, state: NDArray[np.float32], step: int) -> dict[str, NDArray[Any]]:
        """Set a stored state (`env_states`) of the current episode and observe it, see `PointCloudRecipe.observe`.

        Args:
            state: a flat ManiSkill2 state (S,).
            step: time step of the state in the episode; it seeds the downsampling of the cloud.
        """
        task = self.maniskill.unwrapped
        task.set_state(np.asarray(state, np.float64))
        self._n_steps = step
        raw = task.get_obs()
        return self._stored(self.maniskill.get_wrapper_attr("observation")(raw) if self.cloud else raw)

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame, (512, 512, 3) uint8."""
        return np.asarray(self.maniskill.render(), np.uint8)

    def close(self) -> None:
        """Free the simulation."""
        self.maniskill.close()

    def _observe(self, raw: Any) -> Obs:
        observed: Obs = self._stored(raw)
        if self.cloud:
            observed["point_cloud"] = observed["point_cloud"] * self.cloud.scale
        return observed

    def _stored(self, raw: Any) -> dict[str, NDArray[Any]]:
        """Convert a raw observation to the form that files store."""
        if self.cloud is None:
            return {"state": np.asarray(raw, np.float32)}
        return self.cloud.observe(dict(_flat(raw)), (self._episode_seed, self._n_steps))


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    """Flatten nested observations to pairs of path and value, e.g. "agent/qpos"."""
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += (
            _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else [(prefix + name, np.asarray(value))]
        )
    return pairs
