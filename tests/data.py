"""Tiny robomimic files: the format as robomimic and robosuite write it, with values that tell where they come from."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

OBS_SHAPES = {"object": (5,), "robot0_eef_pos": (3,)}
ENV_META = {"env_name": "NutAssemblySquare", "type": 1, "env_kwargs": {"robots": ["Panda"], "control_freq": 20}}


def write_robomimic(
    path: Path,
    lengths: Mapping[str, int] | Sequence[int] = (9, 12, 7),
    obs_shapes: Mapping[str, tuple[int, ...]] = OBS_SHAPES,
    image_keys: Sequence[str] = (),
    image_size: int = 8,
    action_dim: int = 7,
    masks: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
) -> Path:
    """Write a sound file.

    Args:
        path: where to.
        lengths: steps of each demo, by name or for demo_0, demo_1, ...
        obs_shapes: shape of one step of each low-dim key.
        image_keys: keys of uint8 images (steps, image_size, image_size, 3), compressed as robomimic does it.
        image_size: height and width of the images.
        action_dim: size of an action.
        masks: the names of the demos of each filter key.
        seed: seed of all values.

    Returns:
        The path.
    """
    random = np.random.default_rng(seed)
    named = lengths if isinstance(lengths, Mapping) else {f"demo_{i}": n for i, n in enumerate(lengths)}
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(ENV_META)
        data.attrs["total"] = sum(named.values())
        for name, n_steps in named.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = n_steps
            demo["actions"] = random.uniform(-1, 1, (n_steps, action_dim))
            demo["states"] = random.normal(size=(n_steps, 11))
            demo["rewards"] = (np.arange(n_steps) == n_steps - 1).astype(float)
            demo["dones"] = (np.arange(n_steps) == n_steps - 1).astype(int)
            for key, shape in obs_shapes.items():
                values = random.normal(size=(n_steps + 1, *shape))
                demo[f"obs/{key}"], demo[f"next_obs/{key}"] = values[:-1], values[1:]
            for key in image_keys:
                pixels = random.integers(0, 256, (n_steps + 1, image_size, image_size, 3), dtype=np.uint8)
                demo.create_dataset(f"obs/{key}", data=pixels[:-1], compression="gzip")
                demo.create_dataset(f"next_obs/{key}", data=pixels[1:], compression="gzip")
        for name, demos in (masks or {}).items():
            file[f"mask/{name}"] = np.array(demos, dtype="S")
    return path
