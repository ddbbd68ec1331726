"""The generation of robosuite that recorded demonstrations; generations differ in controllers and observations."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

KEY = "robosuite"
"""Name of the generation in the interface of a datamodule or an environment, and thus in a checkpoint."""

FIRST, COMPOSITE = "1.4", "1.5"
"""The generation of robosuite 1.4 and earlier, and the first one with composite controllers."""

_ROBOSUITE_TYPE = 1
"""robomimic's type number of robosuite environments."""


def generation(version: str) -> str:
    """Return the generation of a version: "1.4" for versions before 1.5, else its first two numbers.

    Args:
        version: a version such as "1.5.2".

    Raises:
        ValueError: the version does not begin with two numbers.
    """
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None:
        raise ValueError(f"expected a version that begins with two numbers, got {version!r}")
    major, minor = int(found[1]), int(found[2])
    return FIRST if (major, minor) < (1, 5) else f"{major}.{minor}"


def recorded_generation(env_args: Mapping[str, Any]) -> str | None:
    """Return the generation of robosuite with which a file was recorded; None if the file does not determine it.

    Args:
        env_args: the JSON object in the file's attribute `env_args`. Its `env_version` determines the generation; a
            file without it is classified by its kind of controller settings.
    """
    kwargs = env_args.get("env_kwargs")
    if not isinstance(kwargs, Mapping) or env_args.get("type", _ROBOSUITE_TYPE) != _ROBOSUITE_TYPE:
        return None
    controllers = kwargs.get("controller_configs")
    first = controllers[0] if isinstance(controllers, list) and controllers else controllers
    if not isinstance(first, Mapping):
        first = {}
    if "type" not in env_args and not first:
        return None
    try:
        return generation(str(env_args["env_version"]))
    except (KeyError, ValueError):
        if is_composite(first):
            return COMPOSITE
        return FIRST if "type" in first else None


def is_composite(controller: Mapping[str, Any]) -> bool:
    """Return whether the settings of a controller are of the kind of robosuite 1.5.

    Args:
        controller: the settings of one robot's controller.
    """
    return "body_parts" in controller
