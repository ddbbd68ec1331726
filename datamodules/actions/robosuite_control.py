"""Whether the actions in robosuite's `env_args` are displacements or absolute poses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from datamodules.actions.robosuite_version import is_composite

KEY = "control_delta"
"""Name in the interface of data, environments and checkpoints, and in the controller settings of robosuite 1.4."""

POSE_DIM = 6
"""Components of an arm's action before those of the gripper: three of position and three of rotation."""


def control_delta(env_kwargs: Mapping[str, Any]) -> bool | None:
    """Return whether actions are displacements (True) or absolute poses of the end effectors (False).

    Args:
        env_kwargs: the `env_kwargs` in the `env_args` of a robomimic file.

    Returns:
        None if no controller says so, or if the arms differ.
    """
    found = {bool(value) for value in _settings(env_kwargs.get("controller_configs"))}
    return found.pop() if len(found) == 1 else None


def with_control_delta(env_kwargs: Mapping[str, Any], value: bool) -> dict[str, Any]:
    """Return a copy of `env_kwargs` in which the controllers of all arms take displacements or absolute poses."""
    configs = env_kwargs.get("controller_configs")
    if isinstance(configs, Mapping):
        configs = _with(configs, value)
    elif isinstance(configs, (list, tuple)):
        configs = [_with(config, value) for config in configs]
    return {**env_kwargs, "controller_configs": configs}


def _with(config: Mapping[str, Any], value: bool) -> dict[str, Any]:
    if not is_composite(config):
        return {**config, KEY: value}
    kind = "delta" if value else "absolute"
    parts = {
        name: {**part, "input_type": kind} if _is_pose_controller(part) else part
        for name, part in config["body_parts"].items()
    }
    return {**config, "body_parts": parts}


def _settings(configs: Any) -> Iterator[Any]:
    for config in configs if isinstance(configs, (list, tuple)) else [configs]:
        if not isinstance(config, Mapping):
            continue
        if is_composite(config):
            parts = [part for part in config["body_parts"].values() if _is_pose_controller(part)]
            yield from (part.get("input_type", "delta") == "delta" for part in parts)
        elif KEY in config:
            yield config[KEY]


def _is_pose_controller(part: Any) -> bool:
    return isinstance(part, Mapping) and str(part.get("type", "")).startswith("OSC")
