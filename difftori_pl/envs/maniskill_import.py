"""Import of ManiSkill2 and its tasks, with an error message for each missing dependency."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
import warnings
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from difftori_pl.envs.vulkan import HELP, prepare_vulkan
from difftori_pl.errors import ConfigurationError, MissingPackageError

_CUDA = (
    "ManiSkill2's soft-body tasks need an NVIDIA GPU and the CUDA toolkit (nvcc) to compile their simulator: install "
    "the toolkit and set CUDA_PATH"
)


def import_maniskill() -> ModuleType:
    """Import ManiSkill2, which registers its tasks with gymnasium.

    Raises:
        MissingPackageError: ManiSkill2 or Vulkan is not installed.
    """
    if importlib.util.find_spec("mani_skill2") is None:
        raise MissingPackageError("ManiSkill2 is not installed: pip install 'difftori-pl[maniskill]'")
    prepare_vulkan()
    with warnings.catch_warnings():
        # SAPIEN 2.2 uses the deprecated pkg_resources, and ManiSkill2 uses deprecated names of gymnasium.
        warnings.simplefilter("ignore")
        module = importlib.import_module("mani_skill2.envs")
    logging.getLogger("mani_skill2").setLevel(logging.ERROR)  # its recorder warns about a missing git repository
    return module


def make_task(task: str, obs_mode: str, control_mode: str, max_episode_steps: int, shader: str) -> Any:
    """Build a ManiSkill2 task.

    Args:
        task: ManiSkill2's name of the task.
        obs_mode: `state`, `pointcloud` or another mode of ManiSkill2.
        control_mode: the controller.
        max_episode_steps: number of environment steps after which an episode is truncated.
        shader: SAPIEN's name of the camera shader.

    Raises:
        MissingPackageError: ManiSkill2, Vulkan, CUDA or the task's assets are not installed.
        ConfigurationError: ManiSkill2 has no such task, or the task has no such controller.
    """
    import_maniskill()
    import gymnasium
    from mani_skill2.utils.registration import REGISTERED_ENVS

    if task not in REGISTERED_ENVS:
        near = get_close_matches(task, REGISTERED_ENVS, cutoff=0.4) or sorted(REGISTERED_ENVS)
        raise ConfigurationError(f"ManiSkill2 has no task {task!r}; it has {', '.join(near)}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return gymnasium.make(
                task,
                obs_mode=obs_mode,
                control_mode=control_mode,
                max_episode_steps=max_episode_steps,
                shader_dir=shader,
                render_mode="rgb_array",
            )
    except FileNotFoundError as error:
        found = re.search(r"python -m mani_skill2[\w.]* \w+", str(error))
        command = found[0] if found else f"python -m mani_skill2.utils.download_asset {task}"
        raise MissingPackageError(f"the assets of {task} are missing: `{command}` downloads them") from error
    except (AssertionError, KeyError) as error:
        raise ConfigurationError(f"{task} has no controller {control_mode!r}: {error}") from error
    except RuntimeError as error:
        raise MissingPackageError(f"{_CUDA if 'CUDA' in str(error) else HELP} ({error})") from error
