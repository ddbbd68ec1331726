"""Training steps of the point-cloud encoders, against the same with a graph over all points.

    python benchmarks/point_clouds.py pointcloud.h5

The file is what `difftori data convert` or `difftori demos maniskill` made; its clouds matter, as how many points are
the largest in some feature does.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor

from datamodules import ManiSkillDataModule
from datamodules.formats.maniskill_file import ManiSkillFile
from difftori_pl.models.encoders import DP3Encoder, PointCloudEncoder, PointNetEncoder, dp3, pointnet
from difftori_pl.models.encoders.max_pool import max_pool

ENCODERS: dict[str, type[PointCloudEncoder]] = {"PointNet": PointNetEncoder, "DP3": DP3Encoder}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file")
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
    for (name, made), n_points in [(pair, n) for pair in ENCODERS.items() for n in options.n_points]:
        torch.manual_seed(1)
        obs_dims = {key: spec.shape[0] for key, spec in specs.items() if spec.kind == "vector"}
        encoder = made(n_points=n_points, n_channels=specs["point_cloud"].shape[1], obs_dims=obs_dims).to(
            options.device
        )
        seen = {**obs, "point_cloud": obs["point_cloud"][:, :, :n_points]}
        ours, dense = [], []
        for _ in range(options.repetitions + 1):
            ours.append(_seconds(encoder, seen))
            with _graph_of_all_points():
                dense.append(_seconds(encoder, seen))
        times = [1000 * statistics.median(taken[1:]) for taken in (ours, dense)]
        sizes = [_megabytes(encoder, seen)]
        with _graph_of_all_points():
            sizes.append(_megabytes(encoder, seen))
        cells = [f"{a:.0f} | {b:.0f} | {b / a:.1f}" for a, b in (times, sizes)]
        print(f"| {name} | {n_points} | {' | '.join(cells)} |")


@contextmanager
def _graph_of_all_points() -> Iterator[None]:
    def dense(features: Callable[[Tensor, Tensor], Tensor], points: Tensor, state: Tensor, training: bool) -> Tensor:
        return max_pool(features, points, state, training=False)

    with mock.patch.object(pointnet, "max_pool", dense), mock.patch.object(dp3, "max_pool", dense):
        yield


def _step(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> None:
    encoder.zero_grad()
    latent, _ = encoder(obs, encoder.initial_state(len(obs["point_cloud"])))
    latent.square().mean().backward()


def _seconds(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> float:
    """Of the processor, or by the clock where a GPU does the work."""
    clock = time.process_time if obs["point_cloud"].device.type == "cpu" else time.perf_counter
    start = clock()
    _step(encoder, obs)
    if obs["point_cloud"].is_cuda:
        torch.cuda.synchronize()
    return clock() - start


def _megabytes(encoder: PointCloudEncoder, obs: dict[str, Tensor]) -> float:
    """What the graph keeps for the way back, weights and observations aside."""
    kept: dict[int, int] = {}
    known = {tensor.untyped_storage().data_ptr() for tensor in (*encoder.parameters(), *obs.values())}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        _step(encoder, obs)
    return sum(kept.values()) / 1e6


if __name__ == "__main__":
    main()
