"""Compare the throughput of our loaders and of other loaders on the same files.

    python benchmarks/loaders.py demos/square.hdf5 --obs-keys object robot0_eef_pos --image-keys agentview_image
    python benchmarks/loaders.py trajectory.pointcloud.pd_ee_delta_pose.h5 --maniskill pointcloud.h5

Our loader and robomimic's deliver the same windows in shuffled batches and cache the same data in memory: everything
except images (robomimic's cache mode "low_dim"), or everything with `--cache-images` (its mode "all").

`--frame-cache FOLDER` compares our cache of uncompressed images on disk instead. `--lerobot` compares it with decoding
each window from the videos of a LeRobot data set:

    python benchmarks/loaders.py datasets/lerobot/so101 --lerobot --obs-keys state --image-keys images_front \
        --action-dim 6

ManiSkill's package has no such loader. Pass the raw file and, as `--maniskill`, the output of `difftori data convert`:
our loader is compared with data sets that read one step at a time through h5py, from either file.

On a machine that runs other programs, `--cpu-time` counts the processor time of this process instead of the time by the
clock, and `--min-seconds` makes rounds on a small file long enough.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader, Dataset

from datamodules import LeRobotDataModule, ManiSkillDataModule, PointCloudRecipe, RobomimicDataModule
from datamodules.formats.maniskill_file import ManiSkillFile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    keys = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
    parser.add_argument("--obs-keys", nargs="+", default=keys)
    parser.add_argument("--image-keys", nargs="*", default=[])
    parser.add_argument("--cache-images", action="store_true", help="keep images in memory")
    parser.add_argument("--action-dim", type=int, default=7)
    parser.add_argument("--horizon", type=int, default=10)
    parser.add_argument("--n-obs-steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--n-workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--max-batches", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--cpu-time", action="store_true", help="count processor time; only without worker processes")
    parser.add_argument("--min-seconds", type=float, default=0.0, help="repeat the file until a round takes this long")
    parser.add_argument("--frame-cache", help="folder: ours reads images from an uncompressed cache in it")
    parser.add_argument("--lerobot", action="store_true", help="FILE is a LeRobot data set; compare with decoding")
    parser.add_argument("--maniskill", help="the file converted by `difftori data convert`")
    arguments = parser.parse_args()
    if arguments.cpu_time and any(arguments.n_workers):
        parser.error("--cpu-time does not count worker processes: add --n-workers 0")
    if arguments.maniskill:
        compare_maniskill(arguments)
        return
    if arguments.lerobot:
        compare_lerobot(arguments)
        return

    print("workers         ours    robomimic  ratio   (windows per second, median of the repetitions)")
    for n_workers in arguments.n_workers:
        ours = _speed(_our_loader(arguments, n_workers), lambda batch: len(batch["demo"]), arguments)
        theirs = _speed(_robomimic_loader(arguments, n_workers), lambda batch: len(batch["actions"]), arguments)
        print(f"{n_workers:7d} {ours:12,.0f} {theirs:12,.0f} {ours / theirs:6.1f}")


def compare_maniskill(arguments: argparse.Namespace) -> None:
    file = ManiSkillFile(arguments.maniskill)
    recipe = file.stored_recipe()
    file.close()
    print("workers         ours  converted, step by step  ratio  raw, step by step  ratio   (steps per second, median)")
    for n_workers in arguments.n_workers:
        loader = ManiSkillDataModule(
            arguments.maniskill,
            arguments.action_dim,
            cloud=recipe,
            batch_size=arguments.batch_size,
            validation_fraction=0.0,
            n_workers=n_workers,
        ).train_dataloader()
        ours = _speed(loader, lambda batch: len(batch["demo"]), arguments)
        others = [
            _speed(
                DataLoader(StepByStep(path, recipe), arguments.batch_size, shuffle=True, num_workers=n_workers),
                lambda batch: len(batch["actions"]),
                arguments,
            )
            for path in (arguments.maniskill, arguments.file)
        ]
        print(f"{n_workers:7d} {ours:12,.0f}" + "".join(f" {rate:24,.0f} {ours / rate:6.1f}" for rate in others))


def compare_lerobot(arguments: argparse.Namespace) -> None:
    print("workers         ours     decoding  ratio   (windows per second, median of the repetitions)")
    for n_workers in arguments.n_workers:
        with tempfile.TemporaryDirectory() as folder:
            data = LeRobotDataModule(
                arguments.file,
                arguments.action_dim,
                arguments.obs_keys,
                arguments.image_keys,
                horizon=arguments.horizon,
                n_obs_steps=arguments.n_obs_steps,
                batch_size=arguments.batch_size,
                validation_fraction=0.0,
                frame_cache=arguments.frame_cache or folder,
                n_workers=n_workers,
            )
            ours = _speed(data.train_dataloader(), lambda batch: len(batch["demo"]), arguments)
            windows = DecodedWindows(data, arguments)
            loader = DataLoader(windows, arguments.batch_size, shuffle=True, num_workers=n_workers)
            theirs = _speed(loader, lambda batch: len(batch["actions"]), arguments)
        print(f"{n_workers:7d} {ours:12,.0f} {theirs:12,.0f} {ours / theirs:6.1f}")


class DecodedWindows(Dataset[dict[str, Any]]):
    """Straightforward data set that decodes each window from the video; numbers are in memory."""

    def __init__(self, data: LeRobotDataModule, arguments: argparse.Namespace) -> None:
        self._file, self._image_keys = data.file, arguments.image_keys
        self._n_steps = arguments.n_obs_steps - 1 + arguments.horizon
        self._starts = [
            (demo, start) for demo in data.demos for start in range(data.file.length(demo) - self._n_steps + 1)
        ]
        self._numbers = {demo: self._file.read(demo, "actions") for demo in data.demos}

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> dict[str, Any]:
        demo, start = self._starts[index]
        images = {key: self._file.read(demo, f"obs/{key}", start, start + self._n_steps) for key in self._image_keys}
        return images | {"actions": self._numbers[demo][start : start + self._n_steps].copy()}


class StepByStep(Dataset[dict[str, Any]]):
    """Straightforward data set that reads each array once per step."""

    def __init__(self, path: str, recipe: PointCloudRecipe) -> None:
        self._file = ManiSkillFile(path, recipe)
        self._steps = [(demo, step) for demo in self._file.demos() for step in range(self._file.length(demo))]
        self._file.close()

    def __len__(self) -> int:
        return len(self._steps)

    def __getitem__(self, index: int) -> dict[str, Any]:
        demo, step = self._steps[index]
        if self._file.is_converted:
            keys = ("point_cloud", "robot_state")
            obs = {key: self._file.read(demo, f"obs/{key}", step, step + 1)[0] for key in keys}
        else:
            obs = self._file.observations(demo, step, step + 1)[0]
        cloud = obs["point_cloud"] * self._file.recipe.scale
        return {**obs, "point_cloud": cloud, "actions": self._file.read(demo, "actions", step, step + 1)[0]}


def _our_loader(arguments: argparse.Namespace, n_workers: int) -> DataLoader[Any]:
    return RobomimicDataModule(
        arguments.file,
        arguments.obs_keys,
        arguments.action_dim,
        arguments.image_keys,
        horizon=arguments.horizon,
        n_obs_steps=arguments.n_obs_steps,
        batch_size=arguments.batch_size,
        validation_fraction=0.0,
        cache_images=arguments.cache_images,
        frame_cache=arguments.frame_cache,
        n_workers=n_workers,
    ).train_dataloader()


def _robomimic_loader(arguments: argparse.Namespace, n_workers: int) -> DataLoader[Any]:
    # robomimic's imports emit deprecation warnings, and it prints its progress.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        import robomimic.utils.obs_utils as obs_utils
        from robomimic.utils.dataset import SequenceDataset

        modalities = {"low_dim": arguments.obs_keys, "rgb": arguments.image_keys}
        obs_utils.initialize_obs_utils_with_obs_specs({"obs": modalities})
        dataset = SequenceDataset(
            hdf5_path=arguments.file,
            obs_keys=[*arguments.obs_keys, *arguments.image_keys],
            dataset_keys=["actions"],
            frame_stack=arguments.n_obs_steps,
            seq_length=arguments.horizon,
            get_pad_mask=True,
            hdf5_cache_mode="low_dim" if arguments.image_keys and not arguments.cache_images else "all",
            hdf5_use_swmr=False,
            load_next_obs=False,
        )
    return DataLoader(
        dataset,
        batch_size=arguments.batch_size,
        shuffle=True,
        num_workers=n_workers,
        persistent_workers=n_workers > 0,
    )


def _speed(loader: DataLoader[Any], count: Callable[[Any], int], arguments: argparse.Namespace) -> float:
    """Return the median windows per second, after one round that starts the workers and warms the disk cache."""
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    speeds = []
    for _ in range(1 + arguments.repetitions):
        n_windows, start = 0, clock()
        while n_windows == 0 or clock() - start < arguments.min_seconds:
            for n_batches, batch in enumerate(loader, 1):
                n_windows += count(batch)
                if n_batches == arguments.max_batches:
                    break
        speeds.append(n_windows / (clock() - start))
    return statistics.median(speeds[1:])


if __name__ == "__main__":
    main()
