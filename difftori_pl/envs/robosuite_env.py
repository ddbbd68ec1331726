"""The `gymnasium` environment that wraps a robosuite task."""

from __future__ import annotations

import random
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import gymnasium
import numpy as np

from datamodules.actions.robosuite_control import POSE_DIM, control_delta
from difftori_pl.envs.base import checked_action
from difftori_pl.envs.rendering import OffscreenRenderer
from difftori_pl.envs.robosuite_import import NO_RENDERING, make_task, robomimic_env_kwargs
from difftori_pl.envs.robosuite_release import find_release
from difftori_pl.envs.seeded import Obs, SeededEnv
from difftori_pl.errors import ConfigurationError, ShapeError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

VIDEO_SIZE = 256
"""Height and width of the frames that `render` returns, in pixels."""

ROBOMIMIC_TYPE = 1
"""Robomimic's type number of robosuite environments."""

_FIXED_MODELS = frozenset({"NutAssemblySquare", "ToolHang", "PickPlaceCan"})
"""Tasks with the same model in every episode; the others sample sizes or shapes, so `reset` rebuilds the model."""


class RobosuiteEnv(SeededEnv):
    """A robosuite task that terminates at success, with the observations of robomimic's files.

    The simulation is bitwise identical to robosuite's. Robosuite observes poses one simulation step (2 ms) before the
    final state; robomimic's files and this environment observe the final state itself.

    Build it with `difftori_pl.envs.Robosuite`.

    Args:
        task: robosuite's name of the task.
        obs_keys: low-dimensional observations, robomimic's names.
        image_keys: camera observations, `<camera>_image`.
        image_size: height and width of the camera observations, in pixels.
        max_episode_steps: steps after which an episode is truncated.
        env_kwargs: arguments of the robosuite task; the defaults are robomimic's.
        robots: robosuite's names of the arms.
        shadows: render shadows.
        multisampling: antialias edges.
        reflections: render reflections.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        obs_keys: Sequence[str],
        image_keys: Sequence[str],
        image_size: int,
        max_episode_steps: int,
        env_kwargs: Mapping[str, object],
        robots: tuple[str, ...],
        shadows: bool,
        multisampling: bool,
        reflections: bool,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.task = task
        self.obs_keys = obs_keys
        self.image_keys = image_keys
        self.image_size = image_size
        self.max_episode_steps = max_episode_steps
        self._render_options = shadows, multisampling, reflections
        # This class renders the images, so robosuite's rendering is disabled even if env_kwargs enable it.
        self._release = find_release()
        self._env_kwargs = self._release.env_kwargs(robomimic_env_kwargs(robots) | dict(env_kwargs) | NO_RENDERING)
        with _global_seed(seed):
            self.robosuite = make_task(task, self._env_kwargs)
        self._prepare_observables()
        self._renderers: dict[int, OffscreenRenderer] = {}
        self._n_steps = 0
        self._fresh = False
        self._model_file: str | None = None
        self.action_space = self._action_space()
        self.observation_space = self._observation_space()

    @property
    def interface(self) -> dict[str, Any]:
        """The generation of robosuite, compared with that of a policy's training data."""
        return self._release.interface

    def _start(self, seed: int) -> Obs:
        self._release.seed(self.robosuite, seed)
        with _global_seed(seed):
            self._restart()
        self._n_steps = 0
        return self.observe()

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act for one control period (0.05 s).

        Args:
            action: (A,) in [-1, 1], or absolute poses, see `Robosuite`.

        Returns:
            the observation; the reward, 1 at success, else 0; whether the episode terminated with success; whether it
            was truncated; and `{"success": bool}`.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        command = checked_action(action, self.action_space.shape, self.task)
        self.robosuite.step(command)
        self._refresh()
        self._n_steps += 1
        success = self.is_success()
        reward = self.robosuite.reward(command)
        truncated = not success and self._n_steps >= self.max_episode_steps
        return self.observe(), float(reward), success, truncated, {"success": success}

    def observe(self) -> Obs:
        """Observe the current state: float32 vectors, and images (3, H, W) uint8."""
        values = self.low_dim()
        obs: Obs = {key: values[key].astype(np.float32) for key in self.obs_keys}
        for key in self.image_keys:
            frame = self.render_camera(key.removesuffix("_image"), self.image_size)
            obs[key] = np.ascontiguousarray(frame.transpose(2, 0, 1))
        return obs

    def low_dim(self) -> dict[str, NDArray[np.float64]]:
        """Return all low-dimensional observations that robomimic has for the task, in float64."""
        raw = self._release.observe(self.robosuite)
        values = {key: np.atleast_1d(value) for key, value in raw.items() if not key.endswith("-state")}
        return values | {"object": raw["object-state"]}

    def is_success(self) -> bool:
        """Return whether the task is solved in the current state."""
        return bool(self.robosuite._check_success())

    def state(self) -> NDArray[np.float64]:
        """Return MuJoCo's state as robomimic stores it (S,): time, positions and velocities."""
        return np.asarray(self.robosuite.sim.get_state().flatten(), dtype=np.float64)

    def set_state(self, state: NDArray[np.float64], model_file: str | None = None) -> Obs:
        """Set a stored state and observe it.

        Stepping from it does not reproduce the episode, because controllers have an internal state that is not stored.

        Args:
            state: a state (S,) from `state` or from a robomimic file.
            model_file: the model's XML, if the file has one; it is used until the next `reset`.

        Raises:
            ShapeError: the state does not have the shape of this task's states.
            ConfigurationError: another generation of robosuite wrote the model.
        """
        if model_file is not None and model_file != self._model_file:
            self._check_model(model_file)
            self._close_renderers()
            self.robosuite.reset_from_xml_string(self.robosuite.edit_model_xml(model_file))
            self._model_file = model_file
            self._fresh = False
        sim = self.robosuite.sim
        expected = (1 + sim.model.nq + sim.model.nv,)
        if state.shape != expected:
            raise ShapeError(
                f"{self.task} expects a state of shape {expected}, got {state.shape}: is it of another task?"
            )
        sim.set_state_from_flattened(state)
        sim.forward()
        return self.observe()

    def model_file(self) -> str:
        """Return the current model as robomimic stores it: XML, with paths relative to the robosuite package."""
        xml = ElementTree.fromstring(self.robosuite.model.get_xml())
        for element in xml.iter():
            file = element.get("file", "")
            if "robosuite/" in file:
                element.set("file", "robosuite/" + file.rsplit("robosuite/", 1)[1])
        return ElementTree.tostring(xml, encoding="unicode")

    def arms(self, robot: Any) -> list[tuple[slice, Any]]:
        """Return each arm's part of a robot's action and its controller; see `Release.arms`."""
        return self._release.arms(robot)

    def env_args(self) -> dict[str, Any]:
        """Return the description from which robomimic rebuilds the environment."""
        return {
            "env_name": self.task,
            "env_version": self._release.version,
            "type": ROBOMIMIC_TYPE,
            "env_kwargs": self._env_kwargs,
        }

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame from the camera `agentview`, (256, 256, 3) uint8."""
        return self.render_camera("agentview", VIDEO_SIZE)

    def render_camera(self, camera: str, size: int) -> NDArray[np.uint8]:
        """Render the image of one camera, (H, W, 3) uint8, first row at the top, as in robomimic's files.

        Args:
            camera: robosuite's name of the camera.
            size: height and width of the image, in pixels.
        """
        sim = self.robosuite.sim
        if size not in self._renderers:
            self._renderers[size] = OffscreenRenderer(sim.model._model, size, *self._render_options)
        return self._renderers[size].render(sim.data._data, camera)

    def close(self) -> None:
        """Free the simulation and the renderers."""
        self._close_renderers()
        self.robosuite.close()

    def _restart(self) -> None:
        """Reset robosuite, without recompiling the model if it does not change."""
        task = self.robosuite
        rebuild = self.task not in _FIXED_MODELS or not self._fresh
        if rebuild:
            self._close_renderers()
            self._model_file = None
            task.hard_reset = True
        else:
            # `hard_reset=False` alone reads positions before they are computed. Restore the state after compilation.
            task.hard_reset = False
            task.sim.reset()
            task.sim.forward()
        task.reset()
        self._fresh = True

    def _check_model(self, model_file: str) -> None:
        """Refuse the model of another generation, in which sites have other names."""
        model = self.robosuite.sim.model
        names = [model.site_id2name(i) for i in range(model.nsite)]
        missing = [name for name in names if name and f'name="{name}"' not in model_file]
        if missing:
            raise ConfigurationError(
                f"robosuite {self._release.version} expects the site {missing[0]} in the model of {self.task}, got a "
                "stored model without it: install the version of robosuite in the file's env_args"
            )

    def _refresh(self) -> None:
        """Compute poses and velocities of the current state; MuJoCo's step leaves them one simulation step behind.

        A full `mj_forward` would also change the solver's warm start, and with it the rest of the episode.
        """
        import mujoco

        model, data = self.robosuite.sim.model._model, self.robosuite.sim.data._data
        mujoco.mj_fwdPosition(model, data)
        mujoco.mj_fwdVelocity(model, data)

    def _prepare_observables(self) -> None:
        """Make robosuite read its sensors on request only, not after each of the 25 simulation steps of an action."""
        task = self.robosuite
        for name in task.observation_names:
            if "joint_pos" in name or "eef_vel" in name:  # robomimic observes these too
                task.modify_observable(observable_name=name, attribute="active", modifier=True)
        update = task._update_observables

        def update_when_forced(force: bool = False) -> None:
            if force:
                update(force=True)

        task._update_observables = update_when_forced

    def _action_space(self) -> gymnasium.spaces.Space[NDArray[np.float32]]:
        """Return robosuite's range; absolute poses have none, although robosuite states [-1, 1] for them too."""
        low, high = (np.split(np.float32(limit), len(self.robosuite.robots)) for limit in self.robosuite.action_spec)
        if control_delta(self._env_kwargs) is False:
            for lower, upper in zip(low, high, strict=True):
                lower[:POSE_DIM], upper[:POSE_DIM] = -np.inf, np.inf
        return gymnasium.spaces.Box(np.concatenate(low), np.concatenate(high), dtype=np.float32)

    def _observation_space(self) -> gymnasium.spaces.Dict:
        values = self.low_dim()
        missing = [key for key in self.obs_keys if key not in values]
        if missing:
            raise ConfigurationError(f"{self.task} does not observe {missing}; it has {', '.join(sorted(values))}")
        size = self.image_size
        spaces: dict[str, gymnasium.spaces.Space[Any]] = {
            key: gymnasium.spaces.Box(-np.inf, np.inf, values[key].shape, np.float32) for key in self.obs_keys
        }
        for key in self.image_keys:
            self.render_camera(key.removesuffix("_image"), size)
            spaces[key] = gymnasium.spaces.Box(0, 255, (3, size, size), np.uint8)
        return gymnasium.spaces.Dict(spaces)

    def _close_renderers(self) -> None:
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators, which robosuite uses, and restore their state afterwards."""
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
