"""Count the kernels and the reads on the host of solver steps, updates and actions, and time updates on the processor.

    python -m benchmarks.launches
    python -m benchmarks.launches --pixels    # an update from pixels, with several ways to prepare the images
    python -m benchmarks.launches --compiled  # an update of TD-MPC and of DiffTORI, eager and compiled

Counts do not depend on the machine. Times are medians of processor time, which depend little on other load; the methods
alternate within one process. To compare two versions, run the script in both.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import torch

from benchmarks.rl_speed import build
from difftori_pl import (
    Detached,
    DiffTORIRL,
    LinearSchedule,
    ObservationCritic,
    PixelEncoder,
    RandomShift,
    TrajOptLayer,
    WorldModel,
)
from difftori_pl.models.encoders.base import frames
from difftori_pl.reinforcement.policy_gradients import ExecutedActions
from difftori_pl.trajopt.objective import RolloutReturn
from difftori_pl.trajopt.solvers import LBFGS, MPPI, Adam, LevenbergMarquardt
from tests.dispatch import HostReads, count_kernels

SOLVERS: dict[str, Callable[[int], Any]] = {
    "Levenberg-Marquardt": LevenbergMarquardt,
    "Adam": Adam,
    "L-BFGS": LBFGS,
    "MPPI": lambda n_steps: MPPI(n_steps, n_samples=32, n_elites=8),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--obs_dim", type=int, default=24)
    parser.add_argument("--action_dim", type=int, default=6)
    parser.add_argument("--hidden_dim", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=64)
    parser.add_argument("--horizon", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--pixels", action="store_true")
    parser.add_argument("--compiled", action="store_true")
    options = parser.parse_args()
    if options.pixels:
        pixels(options)
    elif options.compiled:
        compiled(options)
    else:
        modules = build(options)
        solver_steps(next(iter(modules.values())), options)
        updates(modules, options)


def solver_steps(module: DiffTORIRL, options: argparse.Namespace) -> None:
    model = module.world_model
    objective = RolloutReturn(model.reward, model.next, model.min_value, model.act, module.discount)
    latent, actions = torch.randn(2, 50), torch.zeros(2, options.horizon, options.action_dim)

    def evaluate() -> None:
        point = actions.clone().requires_grad_()
        torch.autograd.grad(objective(latent, point).sum(), point)

    bare = count_kernels(evaluate) - 1  # without the copy of the actions
    print("| solver | kernels of a step | beyond value and gradient |\n|---|---|---|")
    print(f"| none: value and gradient | {bare} | |")
    for name, solver in SOLVERS.items():
        few, more = (
            count_kernels(lambda n=n, solver=solver: TrajOptLayer(solver(n), Detached())(objective, latent, actions))
            for n in (5, 6)
        )
        print(f"| {name} | {more - few} | {more - few - bare} |")


def updates(modules: dict[str, DiffTORIRL], options: argparse.Namespace) -> None:
    batch = state_batch(options)
    obs = {"state": batch["obs"]["state"][:1, :1]}
    jobs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name, module in modules.items():
        module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
        optimizers = module.configure_optimizers()
        jobs[name] = (
            lambda module=module, optimizers=optimizers: module.update(batch, *optimizers),
            lambda module=module: module.explore(obs, module.initial_state(1)),
        )
    for update, act in jobs.values():  # builds the optimisers' moments and reads the counters
        update()
        act()
    times = alternate([update for update, _ in jobs.values()], options.repeats)
    print("\n| method | kernels: update | action | reads: update | action | update, ms |\n|---|---|---|---|---|---|")
    for (name, both), milliseconds in zip(jobs.items(), times, strict=True):
        kernels = " | ".join(f"{count_kernels(job):,}" for job in both)
        reads = " | ".join(str(count_reads(job)) for job in both)
        print(f"| {name} | {kernels} | {reads} | {milliseconds:.1f} |")


def state_batch(options: argparse.Namespace) -> dict[str, Any]:
    size, horizon = options.batch_size, options.horizon
    return {
        "obs": {"state": torch.randn(size, horizon + 1, options.obs_dim)},
        "actions": torch.rand(size, horizon, options.action_dim) * 2 - 1,
        "rewards": torch.rand(size, horizon),
        "terminated": torch.zeros(size, horizon, dtype=torch.bool),
        "weights": torch.ones(size),
    }


def compiled(options: argparse.Namespace) -> None:
    batch = state_batch(options)
    print("| method | compilation, s | kernels, eager | update, ms | compiled, ms | ratio |\n|---|---|---|---|---|---|")
    for name in ("TD-MPC (MPPI)", "executed actions, LM 100, truncated 5"):
        updates = []
        for is_compiled in (False, True):
            module = build(options)[name]
            module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
            module._losses.enabled = is_compiled
            optimizers = module.configure_optimizers()
            updates.append(lambda module=module, optimizers=optimizers: module.update(batch, *optimizers))
        updates[0]()
        kernels = count_kernels(updates[0])
        before = processor_seconds()
        updates[1]()
        seconds = processor_seconds() - before
        eager, other = alternate(updates, options.repeats)
        print(f"| {name} | {seconds:.0f} | {kernels} | {eager:.1f} | {other:.1f} | {other / eager:.2f} |", flush=True)


def processor_seconds() -> float:
    """Return the processor time of this process and of the compilers that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def pixels(options: argparse.Namespace) -> None:
    encoder, size, horizon = PixelEncoder(), options.batch_size, options.horizon
    module = DiffTORIRL(
        WorldModel(encoder, options.action_dim, options.hidden_dim),
        build(options)["executed actions, LM 100, truncated 5"].planner,
        LinearSchedule(horizon, horizon, 0),
        LinearSchedule(0.05, 0.05, 0),
        critic=ObservationCritic(encoder, options.action_dim, options.hidden_dim),
        policy_gradient=ExecutedActions(),
    )
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    batch = {
        "obs": {"pixels": torch.randint(256, (size, horizon + 1, 9, 84, 84), dtype=torch.uint8)},
        "actions": torch.rand(size, horizon, options.action_dim) * 2 - 1,
        "rewards": torch.rand(size, horizon),
        "terminated": torch.zeros(size, horizon, dtype=torch.bool),
        "weights": torch.ones(size),
    }
    batch["obs"] = RandomShift()(batch["obs"], encoder.obs_specs)
    optimizers = module.configure_optimizers()

    def update(once: bool, last: bool) -> None:
        for part in module.modules():
            if isinstance(part, PixelEncoder):
                part.takes_unit_images = once
        flat = frames if last else lambda images: images.flatten(0, 1)
        with patch("difftori_pl.models.encoders.pixels.frames", flat):
            module.update(batch, *optimizers)

    variants = {
        "by each encoder": (False, False), "once": (True, False), "once, with channels last": (True, True),
    }  # fmt: skip
    times = alternate([lambda pair=pair: update(*pair) for pair in variants.values()], options.repeats)
    print("| images converted | update, ms | ratio |\n|---|---|---|")
    for name, milliseconds in zip(variants, times, strict=True):
        print(f"| {name} | {milliseconds:.0f} | {milliseconds / times[0]:.2f} |")


def count_reads(job: Callable[[], object]) -> int:
    with HostReads(allowed=10_000) as reads:
        job()
    return reads.count


def alternate(jobs: list[Callable[[], object]], repeats: int) -> list[float]:
    """Return the median processor time of each job, in milliseconds."""
    times: list[list[float]] = [[] for _ in jobs]
    for repeat in range(repeats + 1):
        for job, own in zip(jobs, times, strict=True):
            start = time.process_time()
            job()
            if repeat:  # the first round is a warm-up
                own.append(1000 * (time.process_time() - start))
    return [statistics.median(own) for own in times]


if __name__ == "__main__":
    main()
