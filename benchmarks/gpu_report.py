"""Run everything that needs a GPU within 8 minutes and write `benchmarks/results/gpu.md`.

    make gpu-report
    python -m benchmarks.gpu_report --device cpu --small --output report.md      # to try the script without a GPU

It runs the tests marked `gpu` and measures the time of a plan with at least the return of the published solver, each
solver with its steps as one CUDA graph, and updates and actions per second and memory of each method. A part that would
start after the time limit is left out, and the report says so.
"""

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.rl_speed import build
from benchmarks.trajopt_problems import make_problems
from difftori_pl import Detached, DiffTORIRL, TrajOptLayer
from difftori_pl.trajopt import compilation
from difftori_pl.trajopt.solvers import LBFGS, Adam, LevenbergMarquardt, Solver

LIMIT_S = 480


def main(arguments: list[str] | None = None) -> None:
    """Run all parts and write the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/gpu.md"))
    parser.add_argument("--small", action="store_true", help="tiny sizes, no tests and an uncompiled backend")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("no CUDA GPU was found: run this on a machine with one, or pass --device cpu --small --output FILE")
    if options.small:
        compilation.BACKEND = "eager"
    report = Report(options.output)
    report.add("machine", partial(machine, options))
    if not options.small:
        report.add("tests marked `gpu`", partial(gpu_tests, report))
    report.add("a plan with at least the return of the published solver", partial(plans, options))
    report.add("steps as one CUDA graph", partial(graphs, options))
    report.add("updates and actions", partial(methods, options))


class Report:
    """A file that grows with each part, so that a part that fails or takes too long does not lose the others."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.began = time.monotonic()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("# Measurements on a GPU\n")

    @property
    def seconds_left(self) -> float:
        """Time until the limit."""
        return LIMIT_S - (time.monotonic() - self.began)

    def add(self, title: str, part: Callable[[], str]) -> None:
        """Run a part, unless the time is used up, and append its text."""
        text = part() if self.seconds_left > 0 else f"Not run: the limit of {LIMIT_S} s was reached."
        section = f"\n## {title[0].upper()}{title[1:]}\n\n{text}\n"
        print(section, flush=True)
        with self.path.open("a") as file:
            file.write(section)


def machine(options: argparse.Namespace) -> str:
    name = torch.cuda.get_device_name() if options.device == "cuda" else platform.processor() or platform.machine()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout
    return (
        f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}, "
        f"commit {commit.strip() or 'unknown'}. Command: `make gpu-report`. Times are medians by the clock."
    )


def gpu_tests(report: Report) -> str:
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "--no-header", "--tb=line"]
    try:
        # Half of the time is kept for the measurements.
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=report.seconds_left / 2)
    except subprocess.TimeoutExpired:
        return "Stopped: the tests took more than half of the time."
    lines = done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or ["no output"]
    return "\n".join(f"- {line}" for line in lines if line.startswith(("FAILED", "ERROR")) or line is lines[-1])


def plans(options: argparse.Namespace) -> str:
    """Compare plans of one problem at a time, as when acting, over several problems."""
    width, n_problems = (16, 2) if options.small else (None, 64)
    models, latent, actions = make_problems("rl", n_problems, options.device, torch.float32, width)
    adam = {f"Adam, {n} steps": TrajOptLayer(Adam(n), Detached()) for n in (5, 10, 20, 50)}
    solvers = {
        "published Levenberg-Marquardt, 100 steps": TrajOptLayer(LevenbergMarquardt(100, 1e-4, 1e-2), Detached()),
        **adam,
        "Adam, 20 steps, compiled": TrajOptLayer(Adam(20), Detached(), compiled=True),
        "L-BFGS, 20 steps": TrajOptLayer(LBFGS(20), Detached()),
    }
    rows, enough = [], []
    for name, layer in solvers.items():
        solve = partial(_value, layer, models.objective(), latent, actions)
        value, milliseconds = solve(n_problems).mean().item(), 1000 * _seconds(partial(solve, 1), options)
        rows.append((name, value, milliseconds))
        if value >= rows[0][1]:
            enough.append(rows[-1])
    table = [f"| {name} | {value:.3f} | {milliseconds:.2f} |" for name, value, milliseconds in rows]
    fastest = min(enough, key=lambda row: row[2])
    return "\n".join(
        [
            f"The fastest plan with at least the mean return of the published solver is {fastest[0]}: {fastest[2]:.2f} "
            f"ms instead of {rows[0][2]:.2f} ms, over {n_problems} problems.",
            "",
            "| solver | mean return | time of a plan, ms |",
            "|---|---|---|",
            *table,
        ]
    )


def graphs(options: argparse.Namespace) -> str:
    width, n_problems, n_steps = (16, 2, 3) if options.small else (None, 64, 20)
    models, latent, actions = make_problems("rl", n_problems, options.device, torch.float32, width)
    solvers: list[Solver] = [LevenbergMarquardt(n_steps, 1e-4, 1e-2), Adam(n_steps), LBFGS(n_steps)]
    rows = ["| solver | steps | eager, ms | as a CUDA graph, ms | relative difference of the actions |"]
    rows.append("|---|---|---|---|---|")
    for solver in solvers:
        eager, graph = (TrajOptLayer(solver, Detached(), compiled=compiled) for compiled in (False, True))
        jobs = [partial(layer, models.objective(), latent, actions) for layer in (eager, graph)]
        expected, found = (job().actions for job in jobs)
        difference = ((found - expected).norm() / expected.norm()).item()
        times = [1000 * _seconds(job, options) for job in jobs]
        rows.append(f"| {type(solver).__name__} | {n_steps} | {times[0]:.2f} | {times[1]:.2f} | {difference:.0e} |")
    return "\n".join(rows)


def methods(options: argparse.Namespace) -> str:
    size, width = (4, 8) if options.small else (512, 512)
    sizes = argparse.Namespace(obs_dim=17, action_dim=6, hidden_dim=width, horizon=5, device=options.device)
    rows = [f"TD-MPC's sizes: {width} units, batches of {size} sequences of 5 steps.", ""]
    rows += [
        "| method | updates per second | actions per second | peak memory of an update, MiB |",
        "|---|---|---|---|",
    ]
    for name, module in build(sizes).items():
        update, act = _jobs(module, sizes, size)
        rates = [1 / _seconds(job, options) for job in (update, act)]
        rows.append(f"| {name} | {rates[0]:.1f} | {rates[1]:.1f} | {_peak(update, options)} |")
    return "\n".join(rows)


def _jobs(module: DiffTORIRL, sizes: argparse.Namespace, size: int) -> tuple[Callable[[], Any], Callable[[], Any]]:
    like: dict[str, Any] = {"device": sizes.device}
    obs = torch.randn(size, sizes.horizon + 1, sizes.obs_dim, **like)
    batch = {
        "obs": {"state": obs},
        "actions": torch.rand(size, sizes.horizon, sizes.action_dim, **like) * 2 - 1,
        "rewards": torch.rand(size, sizes.horizon, **like),
        "terminated": torch.zeros(size, sizes.horizon, dtype=torch.bool, **like),
        "weights": torch.ones(size, **like),
    }
    module.log_dict = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimizers = module.configure_optimizers()
    return (
        lambda: module.update(batch, *optimizers),
        lambda: module.explore({"state": obs[:1, :1]}, module.initial_state(1)),
    )


def _value(layer: TrajOptLayer, objective: Any, latent: Tensor, actions: Tensor, n_problems: int) -> Tensor:
    with torch.no_grad():
        return layer(objective, latent[:n_problems], actions[:n_problems]).best_value


def _seconds(job: Callable[[], Any], options: argparse.Namespace) -> float:
    """Return the median time of a call; the first two calls are a warm-up, which includes compilation."""
    times = []
    for repeat in range(3 if options.small else 9):
        _synchronize(options)
        start = time.perf_counter()
        job()
        _synchronize(options)
        if repeat >= 2:
            times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def _peak(job: Callable[[], Any], options: argparse.Namespace) -> str:
    if options.device != "cuda":
        return "not measured"
    torch.cuda.reset_peak_memory_stats()
    job()
    return f"{torch.cuda.max_memory_allocated() / 2**20:.0f}"


def _synchronize(options: argparse.Namespace) -> None:
    if options.device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
