"""Small files in the layouts of other recorders that write HDF5 like robomimic: IsaacLab, MimicGen and LIBERO."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

LENGTHS = (6, 5, 7)


def write_isaaclab(path: Path) -> Path:
    """Write the layout of IsaacLab's `HDF5DatasetFileHandler`, with groups of observations."""

    def arrays(n: int, random: np.random.Generator) -> dict[str, Any]:
        poses = np.tile(np.eye(4, dtype=np.float32), (n, 1, 1))
        return {
            "processed_actions": random.normal(size=(n, 7)).astype(np.float32),
            "obs/policy/joint_pos": random.normal(size=(n, 9)).astype(np.float32),
            "obs/policy/eef_pos": random.normal(size=(n, 3)).astype(np.float32),
            "obs/rgb_camera/table_cam": random.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8),
            "obs/subtask_terms/grasp_1": np.arange(n) > n // 2,
            "obs/datagen_info/eef_pose/franka": poses,
            "obs/datagen_info/object_pose/cube_1": poses,
            "obs/datagen_info/subtask_term_signals/grasp_1": np.arange(n) > n // 2,
            "initial_state/articulation/robot/joint_position": random.normal(size=(1, 9)),
            "initial_state/rigid_object/cube_1/root_pose": random.normal(size=(1, 7)),
            "states/articulation/robot/joint_position": random.normal(size=(n, 9)),
            "states/rigid_object/cube_1/root_pose": random.normal(size=(n, 7)),
        }

    env_args = {"env_name": "Isaac-Stack-Cube-Franka-IK-Rel-Mimic-v0", "type": 2}
    return _write(path, arrays, env_args, lambda n: {"num_samples": n, "success": True, "seed": 3})


def write_mimicgen(path: Path) -> Path:
    """Write the layout of MimicGen's generated data, with `datagen_info` beside `obs`."""

    def arrays(n: int, random: np.random.Generator) -> dict[str, Any]:
        poses = np.tile(np.eye(4), (n, 1, 1))
        return {
            "states": random.normal(size=(n, 45)),
            "obs/object": random.normal(size=(n, 10)),
            "obs/robot0_eef_pos": random.normal(size=(n, 3)),
            "obs/agentview_image": random.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8),
            "datagen_info/eef_pose": poses,
            "datagen_info/target_pose": poses,
            "datagen_info/gripper_action": random.uniform(-1, 1, (n, 1)),
            "datagen_info/object_poses/coffee_pod": poses,
            "datagen_info/subtask_term_signals/grasp": (np.arange(n) > n // 2).astype(int),
            "src_demo_inds": np.zeros(2, dtype=int),
            "src_demo_labels": np.zeros((n, 1), dtype=int),
        }

    kwargs = {"robots": ["Panda"], "controller_configs": {"type": "OSC_POSE"}}
    env_args = {"env_name": "Coffee_D0", "env_version": "1.4.1", "type": 1, "env_kwargs": kwargs}
    return _write(path, arrays, env_args, lambda n: {"num_samples": n, "model_file": "<mujoco/>"})


def write_libero(path: Path) -> Path:
    """Write the layout of LIBERO's demonstrations, whose images end with `_rgb`."""

    def arrays(n: int, random: np.random.Generator) -> dict[str, Any]:
        return {
            "states": random.normal(size=(n, 110)),
            "robot_states": random.normal(size=(n, 9)),
            "rewards": (np.arange(n) == n - 1).astype(np.uint8),
            "dones": (np.arange(n) == n - 1).astype(np.uint8),
            "obs/agentview_rgb": random.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8),
            "obs/eye_in_hand_rgb": random.integers(0, 256, (n, 12, 12, 3), dtype=np.uint8),
            "obs/ee_pos": random.normal(size=(n, 3)),
            "obs/ee_ori": random.normal(size=(n, 3)),
            "obs/ee_states": random.normal(size=(n, 6)),
            "obs/gripper_states": random.normal(size=(n, 2)),
            "obs/joint_states": random.normal(size=(n, 7)),
        }

    kwargs = {"robots": ["Panda"], "controller_configs": {"type": "OSC_POSE"}, "bddl_file_name": "x.bddl"}
    env_args = {"type": 1, "env_name": "Libero_Tabletop_Manipulation", "problem_name": "x", "env_kwargs": kwargs}
    return _write(path, arrays, env_args, lambda n: {"num_samples": n, "init_state": np.zeros(110)})


def _write(
    path: Path,
    arrays: Callable[[int, np.random.Generator], Mapping[str, Any]],
    env_args: Mapping[str, Any],
    attributes: Callable[[int], Mapping[str, Any]],
    lengths: Sequence[int] = LENGTHS,
) -> Path:
    random = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps(env_args)
        data.attrs["total"] = sum(lengths)
        for number, n in enumerate(lengths):
            demo = data.create_group(f"demo_{number}")
            demo.attrs.update(attributes(n))
            demo["actions"] = random.uniform(-1, 1, (n, 7)).astype(np.float32)
            for name, values in arrays(n, random).items():
                demo[name] = values
    return path
