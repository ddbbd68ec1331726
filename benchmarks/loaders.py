"""Windows per second of our loader and of robomimic's, on the same file.

    python benchmarks/loaders.py demos/square.hdf5 --obs-keys object robot0_eef_pos --image-keys agentview_image

Both deliver the same windows in shuffled batches. robomimic gets its fastest cache mode that fits in memory: "all"
without images, "low_dim" with them; so does ours.
"""

import argparse
import contextlib
import io
import statistics
import time
import warnings
from collections.abc import Callable
from typing import Any

from torch.utils.data import DataLoader

from datamodules import RobomimicDataModule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
    keys = ["object", "robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos"]
    parser.add_argument("--obs-keys", nargs="+", default=keys)
    parser.add_argument("--image-keys", nargs="*", default=[])
    parser.add_argument("--action-dim", type=int, default=7)
    parser.add_argument("--horizon", type=int, default=10)
    parser.add_argument("--n-obs-steps", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--n-workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--max-batches", type=int, default=300)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()

    print("workers         ours    robomimic  ratio   (windows per second, median of the repetitions)")
    for n_workers in arguments.n_workers:
        ours = _speed(_our_loader(arguments, n_workers), lambda batch: len(batch["demo"]), arguments)
        theirs = _speed(_robomimic_loader(arguments, n_workers), lambda batch: len(batch["actions"]), arguments)
        print(f"{n_workers:7d} {ours:12,.0f} {theirs:12,.0f} {ours / theirs:6.1f}")


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
        n_workers=n_workers,
    ).train_dataloader()


def _robomimic_loader(arguments: argparse.Namespace, n_workers: int) -> DataLoader[Any]:
    # Its imports warn about old interfaces of other packages, and it prints what it does.
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
            hdf5_cache_mode="low_dim" if arguments.image_keys else "all",
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
    """Windows per second: the median, after one round that starts the workers and warms the disk cache."""
    speeds = []
    for _ in range(1 + arguments.repetitions):
        n_windows, start = 0, time.perf_counter()
        for n_batches, batch in enumerate(loader, 1):
            n_windows += count(batch)
            if n_batches == arguments.max_batches:
                break
        speeds.append(n_windows / (time.perf_counter() - start))
    return statistics.median(speeds[1:])


if __name__ == "__main__":
    main()
