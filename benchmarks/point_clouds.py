"""Compare training steps of the point-cloud encoders with the same steps with a graph over all points.

    python benchmarks/point_clouds.py pointcloud.h5

The file comes from `difftori data convert` or `difftori demos maniskill`. Its clouds influence the result: time and
memory depend on the number of points that are the maximum of some feature.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from saved_tensors import SavedTensors
from torch import Tensor

from datamodules import ManiSkillDataModule
from datamodules.formats.maniskill_file import ManiSkillFile
from difftori_pl.models.encoders import DP3Encoder, PointCloudEncoder, PointNetEncoder, dp3, pointnet
from difftori_pl.models.encoders.max_pool import max_pool

ENCODERS: dict[str, type[PointCloudEncoder]] = {"PointNet": PointNetEncoder, "DP3": DP3Encoder}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", help="point clouds in HDF5 format")
    parser.add_argument("--action-dim", type=int, default=7)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--n-points", type=int, nargs="+", default=[256, 1200])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    file = ManiSkillFile(options.file)
    data = ManiSkillDataModule(
        options.file, options.action_dim, cloud=file.stored_recipe(), batch_size=options.batch_size, in_memory=False
    )
    file.close()
    data.setup()
    specs = data.obs_specs
    obs = {key: value.to(options.device) for key, value in next(iter(data.train_dataloader()))["obs"].items()}
    print("| encoder | points | step, ms | graph of all points, ms | ratio | graph, MB | of all points, MB | ratio |")
    print("|---|---|---|---|---|---|---|---|")
    for (name, encoder_class), n_points in itertools.product(ENCODERS.items(), options.n_points):
        torch.manual_seed(1)
        obs_dims = {key: spec.shape[0] for key, spec in specs.items() if spec.kind == "vector"}
        encoder = encoder_class(n_points=n_points, n_channels=specs["point_cloud"].shape[1], obs_dims=obs_dims)
        encoder = encoder.to(options.device)
        inputs = {**obs, "point_cloud": obs["point_cloud"][:, :, :n_points]}
        sparse, dense = [], []
        for _ in range(options.repetitions + 1):
            sparse.append(_seconds(encoder, inputs))
            with _graph_of_all_points():
                dense.append(_seconds(encoder, inputs))
        time_, dense_time = (1000 * statistics.median(seconds[1:]) for seconds in (sparse, dense))
        size = _megabytes(encoder, inputs)
        with _graph_of_all_points():
            dense_size = _megabytes(encoder, inputs)
        print(
            f"| {name} | {n_points} | {time_:.0f} | {dense_time:.0f} | {dense_time / time_:.1f} "
            f"| {size:.0f} | {dense_size:.0f} | {dense_size / size:.1f} |"
        )


@contextmanager
def _graph_of_all_points() -> Iterator[None]:
    """Make the encoders keep a graph over all points, not only over those that are the maximum of a feature."""

    def dense(features: Callable[[Tensor, Tensor], Tensor], points: Tensor, state: Tensor, training: bool) -> Tensor:
        return max_pool(features, points, state, training=False)

    with mock.patch.object(pointnet, "max_pool", dense), mock.patch.object(dp3, "max_pool", dense):
        yield


def _step(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> None:
    encoder.zero_grad()
    latent, _ = encoder(obs, encoder.initial_state(len(obs["point_cloud"])))
    latent.square().mean().backward()


def _seconds(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> float:
    """Return the processor time of a step, or the wall-clock time on a GPU."""
    clock = time.process_time if obs["point_cloud"].device.type == "cpu" else time.perf_counter
    start = clock()
    _step(encoder, obs)
    if obs["point_cloud"].is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def _megabytes(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> float:
    """Return the peak size of the tensors saved for the backward pass, without weights and observations."""
    with SavedTensors(exclude=(*encoder.parameters(), *obs.values())) as saved:
        _step(encoder, obs)
    return saved.peak / 1e6


if __name__ == "__main__":
    main()
