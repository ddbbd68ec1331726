"""The `gymnasium` environment that wraps a Meta-World task."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import checked_action
from difftori_pl.envs.rendering import OffscreenRenderer
from difftori_pl.envs.seeded import Obs, SeededEnv
from difftori_pl.errors import ConfigurationError, MissingPackageError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

    from difftori_pl.envs.depth_cloud import DepthCloud

VIDEO_SIZE = 256
"""Height and width of the frames that `render` returns, in pixels."""

_VIDEO_CAMERA = "corner4"


class MetaWorldEnv(SeededEnv):
    """A Meta-World task that terminates at success; build it with `difftori_pl.envs.MetaWorld`.

    Args:
        task: Meta-World's name of the task.
        obs_keys: observations, among `state`, `agent_pos`, `point_cloud`.
        cloud: settings of the point cloud.
        max_episode_steps: steps after which an episode is truncated, at most 500.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 80}  # noqa: RUF012

    def __init__(
        self, task: str, obs_keys: Sequence[str], cloud: DepthCloud, max_episode_steps: int, seed: int = 0
    ) -> None:
        super().__init__(seed)
        self.task = task
        self.obs_keys = obs_keys
        self.cloud = cloud
        self.max_episode_steps = max_episode_steps
        self.simulator = _simulator(task)
        self._renderers: dict[int, OffscreenRenderer] = {}
        self._n_steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Dict(
            {
                key: gymnasium.spaces.Box(-np.inf, np.inf, value.shape, np.float32)
                for key, value in self.reset(seed=seed)[0].items()
            }
        )

    def _start(self, seed: int) -> Obs:
        self.simulator.seed(seed)
        self.simulator.reset()
        # Meta-World moves goals and furniture in the MjModel only; MjData is stale until the next simulation step.
        importlib.import_module("mujoco").mj_forward(self.simulator.model, self.simulator.data)
        self.simulator._prev_obs = self.simulator._get_curr_obs_combined_no_goal()
        self._state = self.simulator._get_obs()
        self._n_steps = 0
        return self.observe()

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act for one control period (0.0125 s).

        Args:
            action: (4,) in [-1, 1].

        Returns:
            the observation; Meta-World's dense reward, 0 to 10; whether the episode terminated with success; whether it
            was truncated; and Meta-World's `info`, with `success`.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        command = checked_action(action, self.action_space.shape, self.task)
        self._state, reward, _, _, info = self.simulator.step(np.clip(command, -1.0, 1.0))
        self._n_steps += 1
        success = bool(info["success"])
        truncated = not success and self._n_steps >= self.max_episode_steps
        return self.observe(), float(reward), success, truncated, dict(info) | {"success": success}

    def observe(self) -> Obs:
        """Observe the current state, float32."""
        observed: dict[str, Callable[[], NDArray[Any]]] = {
            "state": self._observe_state,
            "agent_pos": self._agent_pos,
            "point_cloud": self._point_cloud,
        }
        return {key: observed[key]().astype(np.float32) for key in self.obs_keys}

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame, (256, 256, 3) uint8."""
        # The camera is mounted upside down.
        return self._renderer(VIDEO_SIZE).render(self.simulator.data, _VIDEO_CAMERA)[::-1, ::-1]

    def close(self) -> None:
        """Free the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()

    def _observe_state(self) -> NDArray[np.float64]:
        return np.asarray(self._state, np.float64)

    def _agent_pos(self) -> NDArray[np.float64]:
        tips = (self.simulator._get_site_pos(f"{side}EndEffector") for side in ("right", "left"))
        return np.concatenate([self.simulator.get_endeff_pos(), *tips])

    def _point_cloud(self) -> NDArray[np.float32]:
        cloud, model, data = self.cloud, self.simulator.model, self.simulator.data
        depth = self._renderer(cloud.image_size).depth(data, cloud.camera)
        camera = model.camera(cloud.camera).id
        rotation = data.cam_xmat[camera].reshape(3, 3)
        return cloud.observe(depth, data.cam_xpos[camera], rotation, model.cam_fovy[camera])

    def _renderer(self, size: int) -> OffscreenRenderer:
        if size not in self._renderers:
            self._renderers[size] = OffscreenRenderer(
                self.simulator.model, size, shadows=False, reflections=False, geom_groups=(0, 1, 2)
            )
        return self._renderers[size]


def import_metaworld(module: str) -> ModuleType:
    """Import a module of Meta-World.

    Args:
        module: name of the module, e.g. `metaworld.policies`.

    Raises:
        MissingPackageError: Meta-World is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingPackageError(
            f"Meta-World cannot be imported ({error}): pip install 'difftori-pl[metaworld]'"
        ) from error


def find_task(tasks: dict[str, Any], task: str) -> Any:
    """Look up a task in one of Meta-World's dictionaries.

    Args:
        tasks: dictionary from task names to environments or experts.
        task: Meta-World's name of the task.

    Raises:
        ConfigurationError: Meta-World has no such task.
    """
    if task not in tasks:
        near = get_close_matches(task, tasks, cutoff=0.4) or sorted(tasks)
        raise ConfigurationError(f"Meta-World has no task {task!r}; it has {', '.join(near)}")
    return tasks[task]


def _simulator(task: str) -> Any:
    """Build Meta-World's environment, with the goal observed and the initial state drawn from the seed."""
    simulator = find_task(import_metaworld("metaworld.env_dict").ALL_V3_ENVIRONMENTS, task)()
    simulator._partially_observable = False
    del simulator.sawyer_observation_space  # cached for a hidden goal; it clips observations
    simulator._set_task_called = True
    simulator._freeze_rand_vec = False
    simulator.seeded_rand_vec = True
    return simulator
