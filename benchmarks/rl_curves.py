"""Compare learning curves of TensorBoard logs with published ones: a table, areas under the curves, and a plot.

    python benchmarks/rl_curves.py cartpole-swingup runs/rl_cartpole_swingup_state/version_* \
        --published dmc_published.csv.gz --modality state --image cartpole.png

Folders with the same name are seeds of one method; `name=folder` sets the name. Curves without a measurement near each
of `--steps` are left out, because interpolation over long gaps is unreliable. Published curves are a CSV file with the
columns method, modality, task, seed, env_step and return. `--hours 0.5 1 2` uses wall-clock time instead of environment
steps (the paper's Figure 7), which is meaningful only if each run had dedicated cores.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.evaluation.metrics import mean_interval

Curve = tuple[np.ndarray, np.ndarray]
"""Environment steps (or hours) and returns of one seed, (N,) each."""


def read_run(folder: Path, tag: str, over_hours: bool) -> Curve:
    """Read the curve of one run, over environment steps or over hours since its first entry."""
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars, start = events.Scalars(tag), events.FirstEventTimestamp()
    progress = [(scalar.wall_time - start) / 3600 if over_hours else scalar.step for scalar in scalars]
    return np.array(progress), np.array([scalar.value for scalar in scalars])


def read_published(path: Path, task: str, modality: str) -> dict[str, list[Curve]]:
    """Read the published curves: method -> curves of its seeds."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["task"] == task and row["modality"] == modality:
                points[row["method"]][row["seed"]].append((float(row["env_step"]), float(row["return"])))
    return {
        method: [tuple(np.array(sorted(curve)).T) for curve in seeds.values()]  # type: ignore[misc]
        for method, seeds in points.items()
    }


def area(curve: Curve, first: float, last: float) -> float:
    """Average the linearly interpolated return between two points."""
    return float(np.interp(np.linspace(first, last, 1001), *curve).mean())


def covers(curve: Curve, points: Sequence[float]) -> bool:
    """Return whether the curve has a measurement near each of `points`."""
    return all(np.abs(curve[0] - point).min() <= 0.2 * points[-1] for point in points)


def at(curve: Curve, point: float) -> float:
    """Interpolate the return linearly at a point."""
    return float(np.interp(point, *curve))


def with_interval(values: Sequence[float]) -> str:
    low, high = mean_interval(values)
    interval = f" ({low:.0f} to {high:.0f})" if len(values) > 1 else ""
    return f"{np.mean(values):.0f}{interval}"


def table(curves: dict[str, list[Curve]], points: Sequence[float]) -> str:
    """Format returns at `points` and the mean return between them: means over seeds, bootstrap 95 % intervals."""
    header = ["method", "seeds", *(f"{point:,}" for point in points), f"mean, {points[0]:,} to {points[-1]:,}"]
    rows = [header, ["---"] * len(header)]
    for method, seeds in curves.items():
        values = [with_interval([at(curve, point) for curve in seeds]) for point in points]
        areas = with_interval([area(curve, points[0], points[-1]) for curve in seeds])
        rows.append([method, str(len(seeds)), *values, areas])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(curves: dict[str, list[Curve]], last: float, label: str, title: str, path: Path) -> None:
    """Plot means over seeds, with a band from minimum to maximum."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    grid = np.linspace(0.0, last, 201)
    for method, seeds in curves.items():
        values = np.stack([np.interp(grid, *curve, left=np.nan, right=np.nan) for curve in seeds])
        (line,) = axes.plot(grid, values.mean(0), label=f"{method} ({len(seeds)} seeds)")
        axes.fill_between(grid, values.min(0), values.max(0), color=line.get_color(), alpha=0.15)
    axes.set(title=title, xlabel=label, ylabel="return of an episode", xlim=(0, last))
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("runs", nargs="+", help="folders of TensorBoard logs, as folder or name=folder")
    parser.add_argument("--published", type=Path)
    parser.add_argument("--modality", default="state", choices=("state", "pixels"))
    parser.add_argument("--tag", default="rollout/policy/return")
    parser.add_argument("--steps", type=int, nargs="+", default=[20_000, 40_000, 60_000])
    parser.add_argument("--hours", type=float, nargs="+")
    parser.add_argument("--image", type=Path)
    options = parser.parse_args()
    curves: dict[str, list[Curve]] = defaultdict(list)
    for run in options.runs:
        name, equals, folder = run.partition("=")
        path = Path(folder if equals else name)
        curves[name if equals else path.parent.name].append(read_run(path, options.tag, options.hours is not None))
    if options.published and not options.hours:
        published = read_published(options.published, options.task, options.modality)
        curves |= {f"{method}, published": seeds for method, seeds in published.items()}
    points, label = (options.hours, "hours") if options.hours else (options.steps, "environment steps")
    measured = {name: [seed for seed in seeds if covers(seed, points)] for name, seeds in curves.items()}
    curves = {name: seeds for name, seeds in measured.items() if seeds}
    print(table(curves, points))
    if options.image:
        draw(curves, points[-1], label, f"{options.task}, {options.modality}", options.image)


if __name__ == "__main__":
    main()
