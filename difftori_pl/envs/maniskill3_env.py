"""The `gymnasium` environment that wraps a ManiSkill3 task."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

from difftori_pl.envs.base import checked_action
from difftori_pl.envs.seeded import Obs, SeededEnv
from difftori_pl.envs.vulkan import HELP, prepare_vulkan
from difftori_pl.errors import ConfigurationError, MissingPackageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ManiSkill3Env(SeededEnv):
    """A ManiSkill3 task that terminates at success, with the observations of `ManiSkill3DataModule`.

    Build it with `difftori_pl.envs.ManiSkill3`.

    Args:
        task: ManiSkill3's name of the task.
        control_mode: the controller.
        obs_keys: vectors; `[state]` observes ManiSkill3's flat vector.
        image_keys: RGB images.
        max_episode_steps: steps after which an episode is truncated.
        render_backend: `cpu`, `gpu` or `none`.
        seed: seed of the generator that draws episode seeds when `reset` is called without one.

    Raises:
        MissingPackageError: ManiSkill3, Vulkan or the task's assets are not installed.
        ConfigurationError: ManiSkill3 has no such task or controller, or the task no such observation.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}  # noqa: RUF012

    def __init__(
        self,
        task: str,
        control_mode: str,
        obs_keys: Sequence[str],
        image_keys: Sequence[str],
        max_episode_steps: int,
        render_backend: str,
        seed: int = 0,
    ) -> None:
        super().__init__(seed)
        self.task = task
        self._keys, self._image_keys = tuple(obs_keys), tuple(image_keys)
        mode = "state" if self._keys == ("state",) else "state_dict"
        mode = f"{mode}+rgb" if image_keys else mode
        self.maniskill = _make(task, mode, control_mode, max_episode_steps, render_backend)
        self.action_space = self.maniskill.action_space
        self.observation_space = gymnasium.spaces.Dict(
            {key: _space(value) for key, value in self.reset(seed=seed)[0].items()}
        )

    def _start(self, seed: int) -> Obs:
        raw, _ = self.maniskill.reset(seed=seed)
        return self._observe(raw)

    def step(self, action: NDArray[np.float32]) -> tuple[Obs, float, bool, bool, dict[str, Any]]:
        """Act for one control period (0.05 s).

        Args:
            action: (A,) in the controller's range: [-1, 1] if its name contains `delta`.

        Returns:
            the observation; ManiSkill3's dense reward; whether the episode terminated with success; whether it was
            truncated; and `info`, with `success` if the task defines it.

        Raises:
            ShapeError: the action has the wrong size.
            ValueError: the action is not finite.
        """
        command = checked_action(action, self.action_space.shape, self.task).astype(np.float32)
        raw, reward, terminated, truncated, info = self.maniskill.step(command)
        outcome = {"success": bool(info["success"])} if "success" in info else {}
        return self._observe(raw), float(reward), bool(terminated), bool(truncated), outcome

    def render(self) -> NDArray[np.uint8]:
        """Render a video frame, (512, 512, 3) uint8."""
        return np.asarray(self.maniskill.render(), np.uint8)

    def close(self) -> None:
        """Free the simulation."""
        self.maniskill.close()

    def _observe(self, raw: Any) -> Obs:
        found = dict(_flat(raw)) if isinstance(raw, Mapping) else {"state": np.asarray(raw)}
        missing = [key for key in (*self._keys, *self._image_keys) if key not in found]
        if missing:
            raise ConfigurationError(f"{self.task} has no observation {missing[0]!r}; it has {', '.join(found)}")
        observed: Obs = {key: np.atleast_1d(found[key]).astype(np.float32) for key in self._keys}
        return observed | {key: np.ascontiguousarray(found[key].transpose(2, 0, 1)) for key in self._image_keys}


def _make(task: str, obs_mode: str, control_mode: str, max_episode_steps: int, render_backend: str) -> Any:
    if importlib.util.find_spec("mani_skill") is None:
        raise MissingPackageError(
            "ManiSkill3 is not installed: pip install 'difftori-pl[maniskill3]', in an environment without ManiSkill2 "
            "(they need different versions of SAPIEN)"
        )
    prepare_vulkan()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("mani_skill.envs")  # registers the tasks
        from mani_skill.utils.registration import REGISTERED_ENVS
        from mani_skill.utils.wrappers import CPUGymWrapper

        if task not in REGISTERED_ENVS:
            near = get_close_matches(task, REGISTERED_ENVS, cutoff=0.4) or sorted(REGISTERED_ENVS)
            raise ConfigurationError(f"ManiSkill3 has no task {task!r}; it has {', '.join(near)}")
        try:
            made = gymnasium.make(
                task,
                obs_mode=obs_mode,
                control_mode=control_mode,
                max_episode_steps=max_episode_steps,
                render_mode="rgb_array",
                sim_backend="physx_cpu",
                render_backend=render_backend,
            )
        except FileNotFoundError as error:
            raise MissingPackageError(
                f"the assets of {task} are missing: `python -m mani_skill.utils.download_asset {task}` downloads them"
            ) from error
        except (AssertionError, KeyError) as error:
            raise ConfigurationError(f"{task} has no controller {control_mode!r}: {error}") from error
        except RuntimeError as error:
            raise MissingPackageError(f"{HELP} ({error})") from error
        return CPUGymWrapper(made)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten nested observations to pairs of path and value, e.g. "agent/qpos"."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}/")
        else:
            yield prefix + name, np.asarray(value)


def _space(value: NDArray[Any]) -> gymnasium.spaces.Box:
    if value.dtype == np.uint8:
        return gymnasium.spaces.Box(0, 255, value.shape, np.uint8)
    return gymnasium.spaces.Box(-np.inf, np.inf, value.shape, np.float32)
