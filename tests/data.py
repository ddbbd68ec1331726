"""Writers of tiny demonstration files in the supported formats."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

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
    """Write a valid robomimic file.

    Args:
        path: path of the new file.
        lengths: number of steps of each demo, by name or for demo_0, demo_1, ...
        obs_shapes: shape of one step of each low-dim key.
        image_keys: keys of uint8 images (steps, image_size, image_size, 3), compressed as in robomimic.
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


METAWORLD_CLOUD = {
    "n_points": 16,
    "camera": "corner4",
    "image_size": 84,
    "low": [-0.6, 0.2, 0.005],
    "high": [0.6, 1.1, 0.6],
}


def write_metaworld(path: Path, task: str, lengths: Sequence[int] = (9, 12, 10)) -> Path:
    """Write a valid file in the format of `difftori demos metaworld`, with clouds of 16 points.

    Args:
        path: path of the new file.
        task: Meta-World's name of the task.
        lengths: number of steps of each demo.

    Returns:
        The path.
    """
    shapes = {"state": (39,), "agent_pos": (9,), "point_cloud": (METAWORLD_CLOUD["n_points"], 3)}
    write_robomimic(path, lengths, shapes, action_dim=4)
    with h5py.File(path, "a") as file:
        meta = {"env_name": task, "type": 2, "env_kwargs": {"cloud": METAWORLD_CLOUD}}
        file["data"].attrs["env_args"] = json.dumps(meta)
    return path


def write_maniskill(
    folder: Path,
    lengths: Sequence[int] = (6, 5, 7),
    obs_mode: str = "pointcloud",
    control_mode: str = "pd_ee_delta_pose",
    action_dim: int = 7,
    n_points: int = 300,
    failed: Sequence[int] = (),
    cameras: Sequence[str] = ("base_camera", "hand_camera"),
    seed: int = 0,
) -> Path:
    """Write a valid HDF5 file in ManiSkill2's format and its JSON file.

    Args:
        folder: folder of the new files.
        lengths: number of steps of each trajectory.
        obs_mode: "state", "pointcloud" or "none".
        control_mode: the controller of the actions in the JSON file.
        action_dim: size of an action.
        n_points: number of points in a raw cloud; a third of them is ground, and one is at infinity.
        failed: numbers of the trajectories that fail.
        cameras: names of the cameras, in the order of their points in a cloud.
        seed: seed of all values.

    Returns:
        The path of the HDF5 file.
    """
    random = np.random.default_rng(seed)
    path = folder / f"trajectory.{obs_mode}.{control_mode}.h5"
    with h5py.File(path, "w") as file:
        for number, n_steps in enumerate(lengths):
            group = file.create_group(f"traj_{number}")
            group["actions"] = random.uniform(-1, 1, (n_steps, action_dim)).astype(np.float32)
            group["env_states"] = random.normal(size=(n_steps + 1, 5)).astype(np.float32)
            group["success"] = (np.arange(n_steps) == n_steps - 1) & (number not in failed)
            if obs_mode == "state":
                group["obs"] = random.normal(size=(n_steps + 1, 51))
                continue
            obs = group.create_group("obs")
            if obs_mode == "pointcloud":
                for name, values in _raw_clouds(random, n_steps + 1, n_points).items():
                    obs[name] = values
    episodes = [{"episode_id": i, "episode_seed": i, "elapsed_steps": n} for i, n in enumerate(lengths)]
    kwargs = {"obs_mode": obs_mode, "control_mode": control_mode}
    info = {"env_id": "PickCube-v0", "max_episode_steps": 200, "env_kwargs": kwargs, "cameras": list(cameras)}
    path.with_suffix(".json").write_text(json.dumps({"env_info": info, "episodes": episodes}))
    return path


def _raw_clouds(random: np.random.Generator, n_steps: int, n_points: int) -> dict[str, np.ndarray]:
    xyzw = random.uniform(-0.5, 0.5, (n_steps, n_points, 4)).astype(np.float32)
    xyzw[..., 2] = random.uniform(0.01, 0.5, (n_steps, n_points))
    xyzw[..., 3] = 1
    xyzw[:, ::3, 2] = 0
    xyzw[:, 1] = 0
    quaternions = random.normal(size=(n_steps, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    return {
        "pointcloud/xyzw": xyzw,
        "pointcloud/rgb": random.integers(0, 256, (n_steps, n_points, 3), dtype=np.uint8),
        "agent/qpos": random.normal(size=(n_steps, 9)).astype(np.float32),
        "agent/qvel": random.normal(size=(n_steps, 9)).astype(np.float32),
        "agent/base_pose": np.tile(np.float32([-0.6, 0, 0, 1, 0, 0, 0]), (n_steps, 1)),
        "extra/tcp_pose": np.hstack([random.uniform(-0.2, 0.2, (n_steps, 3)), quaternions]).astype(np.float32),
        "extra/goal_pos": np.tile([0.1, -0.1, 0.2], (n_steps, 1)),
    }


def write_pusht(path: Path, lengths: Sequence[int] = (9, 12, 7), image_size: int = 96, seed: int = 0) -> Path:
    """Write a valid Push-T file in zarr format 2, with chunks of five steps.

    Args:
        path: path of the new folder.
        lengths: number of steps of each episode.
        image_size: height and width of the images.
        seed: seed of all values.

    Returns:
        The path.
    """
    zarr = pytest.importorskip("zarr")
    random = np.random.default_rng(seed)
    n_steps = sum(lengths)
    arrays = {
        "action": random.uniform(0, 512, (n_steps, 2)),
        "state": random.uniform(0, 512, (n_steps, 5)),
        "keypoint": random.uniform(0, 512, (n_steps, 9, 2)),
        "img": random.integers(0, 256, (n_steps, image_size, image_size, 3)),
    }
    group = zarr.group(str(path), **({"zarr_format": 2} if zarr.__version__ >= "3" else {}))
    for name, values in arrays.items():
        _zarr_array(group, f"data/{name}", values.astype(np.float32))
    _zarr_array(group, "meta/episode_ends", np.cumsum(lengths))
    return path


def _zarr_array(group: Any, name: str, values: np.ndarray) -> None:
    create = getattr(group, "create_array", None) or group.create_dataset
    create(name, shape=values.shape, dtype=values.dtype, chunks=(5, *values.shape[1:]))[:] = values
