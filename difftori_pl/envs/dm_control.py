"""Tasks of the DeepMind Control suite: the recipe used in configurations and the environment that it builds."""

from __future__ import annotations

import difflib
import importlib
import os
from collections import deque
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import EnvFactory, checked_action
from difftori_pl.envs.rendering import OffscreenRenderer
from difftori_pl.envs.seeded import Obs, SeededEnv
from difftori_pl.errors import ConfigurationError, MissingPackageError

if TYPE_CHECKING:
    from types import ModuleType

    from numpy.typing import NDArray

VIDEO_SIZE = 256
"""Height and width of the frames that `render` returns, in pixels."""

_DOMAINS = {"cup": "ball_in_cup"}
"""Short domain names used in the literature, and the suite's names for them."""


class DMControl(EnvFactory):
    """A task of the suite with the settings of the RL literature: action repeat, stacked frames, small images.

    The observation is `state`, the suite's observations concatenated into one vector, or `pixels`, the last frames
    stacked along the channels. An episode is truncated after 1000 environment steps. Truncation does not end the task,
    so values must be bootstrapped.

    Args:
        task: `<domain>-<task>`, the suite's names with `-` or `_` between words, e.g. `cheetah-run`.
        action_repeat: number of environment steps for which an action is held; their rewards are summed.
        pixels: observe images instead of the state.
        image_size: height and width of the observed images, in pixels.
        n_frames: number of images stacked along the channels, the newest last.
        camera: index of the camera; use 2 for quadruped.
        fast_rendering: render without shadows, multisampling and reflections. This is three times as fast in software,
            but published pixel results were trained with all three.
    """

    def __init__(
        self,
        task: str,
        action_repeat: int = 2,
        pixels: bool = False,
        image_size: int = 84,
        n_frames: int = 3,
        camera: int = 0,
        fast_rendering: bool = False,
    ) -> None:
        sizes = {"action_repeat": action_repeat, "image_size": image_size, "n_frames": n_frames}
        wrong = [f"{name} {value}" for name, value in sizes.items() if value < 1]
        if wrong:
            raise ConfigurationError(f"action_repeat, image_size and n_frames must be at least 1, got {wrong[0]}")
        self.task = task
        self.action_repeat = action_repeat
        self.pixels = pixels
        self.image_size = image_size
        self.n_frames = n_frames
        self.camera = camera
        self.fast_rendering = fast_rendering

    def __call__(self, seed: int = 0) -> DMControlEnv:
        """Build the environment.

        Args:
            seed: seed of the generator that draws episode seeds when `reset` is called without one.

        Raises:
            MissingPackageError: dm_control, or a system library for rendering, is not installed.
            ConfigurationError: the suite has no such task.
        """
        return DMControlEnv(self, seed)


class DMControlEnv(SeededEnv):
    """A task of the suite; build it with `difftori_pl.envs.DMControl`.

    Args:
        recipe: the task and its observations.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.
    """

    def __init__(self, recipe: DMControl, seed: int = 0) -> None:
        super().__init__(seed)
        self.recipe = recipe
        suite = _import_suite()
        self.dm_env = suite.load(*_find_task(suite, recipe.task))
        self._renderers: dict[int, OffscreenRenderer] = {}
        self._frames: deque[NDArray[np.uint8]] = deque(maxlen=recipe.n_frames)
        spec = self.dm_env.action_spec()
        self._low, self._high = spec.minimum, spec.maximum
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": round(1.0 / (self.dm_env.control_timestep() * recipe.action_repeat)),
        }
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, spec.shape, np.float32)
        self.observation_space = (
            gymnasium.spaces.Dict({"pixels": self._pixel_space()})
            if recipe.pixels
            else (gymnasium.spaces.Dict({"state": self._state_space()}))
        )

    def _start(self, seed: int) -> Obs:
        self.dm_env.task._random = np.random.RandomState(seed % 2**32)
        state = self.dm_env.reset().observation
        if self.recipe.pixels:
            self._frames.extend([self._frame()] * self.recipe.n_frames)
        return self._observe(state)

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Hold an action for `action_repeat` environment steps.

        Args:
            action: (A,) in [-1, 1]; values outside are clipped.

        Returns:
            the observation; the sum of the rewards, each in [0, 1]; whether the task terminated, which few tasks do;
            whether the limit of 1000 environment steps was reached; and `{"env_steps": int}`, the number of environment
            steps, which may be below `action_repeat` at the end of an episode.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        command = checked_action(action, self.action_space.shape, self.recipe.task)
        control = self._low + (np.clip(command, -1.0, 1.0) + 1.0) * 0.5 * (self._high - self._low)
        reward, n_steps = 0.0, 0
        for _ in range(self.recipe.action_repeat):
            n_steps += 1
            step = self.dm_env.step(control)
            reward += float(step.reward)
            if step.last():
                break
        if self.recipe.pixels:
            self._frames.append(self._frame())
        terminated = step.last() and step.discount == 0.0
        return (
            self._observe(step.observation),
            reward,
            terminated,
            step.last() and not terminated,
            {"env_steps": n_steps},
        )

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame, (256, 256, 3) uint8."""
        return self._render(VIDEO_SIZE)

    def close(self) -> None:
        """Free the simulation and the renderers."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers.clear()
        self.dm_env.close()

    def _observe(self, state: dict[str, Any]) -> Obs:
        if self.recipe.pixels:
            return {"pixels": np.concatenate(self._frames)}
        return {"state": np.concatenate([np.ravel(value) for value in state.values()]).astype(np.float32)}

    def _frame(self) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._render(self.recipe.image_size).transpose(2, 0, 1))

    def _render(self, size: int) -> NDArray[np.uint8]:
        physics = self.dm_env.physics
        if size not in self._renderers:
            full = not self.recipe.fast_rendering
            self._renderers[size] = OffscreenRenderer(physics.model.ptr, size, full, full, full, geom_groups=(0, 1, 2))
        return self._renderers[size].render(physics.data.ptr, self.recipe.camera)

    def _state_space(self) -> gymnasium.spaces.Box:
        size = sum(int(np.prod(spec.shape)) for spec in self.dm_env.observation_spec().values())
        return gymnasium.spaces.Box(-np.inf, np.inf, (size,), np.float32)

    def _pixel_space(self) -> gymnasium.spaces.Box:
        self.dm_env.reset()
        self._frame()  # fails early if rendering is not possible
        size = self.recipe.image_size
        return gymnasium.spaces.Box(0, 255, (3 * self.recipe.n_frames, size, size), np.uint8)


def _import_suite() -> ModuleType:
    """Import the suite without OpenGL: dm_control would load it, but `OffscreenRenderer` renders the images."""
    chosen = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "disable"
    try:
        suite: Any = importlib.import_module("dm_control.suite")
    except ImportError as error:
        raise MissingPackageError(
            f"dm_control cannot be imported ({error}): pip install 'difftori-pl[dm-control]'"
        ) from error
    finally:
        del os.environ["MUJOCO_GL"]
        if chosen is not None:
            os.environ["MUJOCO_GL"] = chosen
    if not hasattr(np, "in1d"):
        # dm_control 1.0.28 calls numpy.in1d, which numpy 2.4 removed; later versions do not fit Meta-World's MuJoCo.
        suite.quadruped.Physics._get_sensor_names = _sensor_names
    return suite


def _sensor_names(physics: Any, *types: int) -> list[str]:
    """Return the names of the sensors of some types, in their order in the model."""
    return [
        physics.model.id2name(number, "sensor") for number in np.flatnonzero(np.isin(physics.model.sensor_type, types))
    ]


def _find_task(suite: ModuleType, name: str) -> tuple[str, str]:
    """Convert `<domain>-<task>` to the suite's names of domain and task.

    Raises:
        ConfigurationError: the suite has no such task; the message lists similar ones.
    """
    tasks = {f"{domain}-{task}".replace("_", "-"): (domain, task) for domain, task in suite.ALL_TASKS}
    for short, domain in _DOMAINS.items():
        long = domain.replace("_", "-")
        tasks |= {key.replace(long, short): task for key, task in tasks.items() if key.startswith(long)}
    key = name.replace("_", "-")
    if key not in tasks:
        near = difflib.get_close_matches(key, tasks, n=5, cutoff=0.4)
        raise ConfigurationError(
            f"the DeepMind Control suite has no task {name!r}; expected <domain>-<task>, "
            + (f"did you mean {', '.join(near)}?" if near else f"for instance {', '.join(sorted(tasks)[:5])}")
        )
    return tasks[key]
