"""Faults in the type and shape of stored arrays, in formats whose users choose the keys."""

from __future__ import annotations

from typing import Any

import numpy as np

from datamodules.formats.faults import Fault, is_numeric


def wrong_image(demo: str, name: str, array: Any) -> Fault | None:
    """Return a fault if an array does not hold images (steps, height, width, 3) of uint8."""
    if array.dtype == np.uint8 and array.ndim == 4 and array.shape[-1] == 3:
        return None
    if array.ndim != 4:
        advice = "Move the key from image_keys to obs_keys."
    elif array.shape[1] == 3:
        advice = "The channels come first: write the images with the channels last."
    else:
        advice = "Render the images again, or convert them."
    problem = f"expected {name} to be uint8 images (steps, height, width, 3), found {array.dtype} {array.shape}"
    return Fault("image_format", demo, problem, advice, name)


def wrong_low_dim(demo: str, name: str, array: Any) -> Fault | None:
    """Return a fault if an array does not hold numbers: (steps,) for rewards and dones, else (steps, size)."""
    if is_numeric(array) and array.ndim == 4 and array.dtype == np.uint8:
        if array.shape[-1] == 3:
            advice = "Move the key from obs_keys to image_keys."
        else:
            advice = "Write them as (steps, height, width, 3), and move the key from obs_keys to image_keys."
        problem = f"expected vectors in {name}, found images {array.shape}"
        return Fault("image_as_low_dim", demo, problem, advice, name)
    is_scalar = name in ("rewards", "dones")
    # An observation (steps,) is read as a vector of size 1.
    least = 2 if name == "actions" else 1
    if is_numeric(array) and (array.ndim == 1 if is_scalar else array.ndim >= least):
        return None
    expected = "(steps,)" if is_scalar else "(steps, size)"
    problem = f"expected {name} to be numbers {expected}, found {array.dtype} {array.shape}"
    return Fault("array_format", demo, problem, "Write the array in that shape.", name)


def wrong_shape(
    demo: str, name: str, shape: tuple[int, ...], n_steps: int, shapes: dict[str, tuple[int, ...]]
) -> Fault | None:
    """Return a fault if an array has another number of steps than the actions, or another shape than in other demos.

    Args:
        demo: name of the demo.
        name: path of the array in the demo.
        shape: shape of the array.
        n_steps: number of actions of the demo.
        shapes: shape of one step of each array seen so far; the shape of a new array is added.
    """
    # Some recorders also store the observation after the last action.
    if shape[0] != n_steps and not (name.startswith("obs/") and shape[0] == n_steps + 1):
        problem = f"expected {n_steps} steps in {name}, as in actions, found {shape[0]}"
        return Fault("length", demo, problem, "The recording is truncated: remove the demo, or record it again.", name)
    expected = shapes.setdefault(name, shape[1:])
    if shape[1:] == expected:
        return None
    problem = f"expected {name} of shape {expected} at each step, as in the first demo, found {shape[1:]}"
    return Fault("shape", demo, problem, "Do not mix recordings of different setups in one file.", name)
