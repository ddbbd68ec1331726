"""The arrays of a robomimic file that a request needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from datamodules.formats.faults import Request, is_numeric


class RequiredArrays(NamedTuple):
    """The arrays that a request needs of each demo, as paths in the demo's group.

    Attributes:
        vectors: arrays of numbers, "actions" first.
        images: arrays of images.
        action_dim: size of an action; None if no demo has actions.
    """

    vectors: list[str]
    images: list[str]
    action_dim: int | None


def required_arrays(demos: Iterable[Mapping[str, Any]], request: Request) -> RequiredArrays:
    """Resolve a request for the arrays of demos; fields that are None stand for every numeric array that any has."""
    arrays: dict[str, Any] = {}
    for stored in demos:
        arrays = {name: item for name, item in stored.items() if is_numeric(item)} | arrays
    groups = {name.split("/")[0] for name in arrays}
    has_next = "next_obs" in groups if request.next_obs is None else request.next_obs
    has_rewards = not groups.isdisjoint({"rewards", "dones"}) if request.rewards is None else request.rewards
    vectors, images = ["actions"], []
    for prefix in ("obs/", "next_obs/") if has_next else ("obs/",):
        found = [name for name in arrays if name.startswith(prefix)]
        found_images = [name for name in found if _looks_like_images(name, arrays[name])]
        others = [name for name in found if name not in found_images]
        vectors += others if request.obs_keys is None else [prefix + key for key in request.obs_keys]
        images += found_images if request.image_keys is None else [prefix + key for key in request.image_keys]
    vectors += ["rewards", "dones"] if has_rewards else []
    actions = arrays.get("actions")
    action_dim = actions.shape[1] if actions is not None and actions.ndim == 2 else None
    return RequiredArrays(vectors, images, action_dim if request.action_dim is None else request.action_dim)


def _looks_like_images(key: str, array: Any) -> bool:
    return array.ndim == 4 and (array.dtype == np.uint8 or key.endswith("_image"))
