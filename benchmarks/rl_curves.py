"""Learning curves of TensorBoard logs against published ones: a table, areas under the curves, and a picture.

    python benchmarks/rl_curves.py cartpole-swingup runs/rl_cartpole_swingup_state/version_* \
        --published dmc_published.csv.gz --modality state --picture cartpole.png

Several folders of one name are seeds of one method; `name=folder` gives another name. Curves that were not measured
near each of `--steps` are left out, as straight lines between far points say little. Published curves are a CSV file
with the columns method, modality, task, seed, env_step and return.
"""

import argparse
import csv
import gzip
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.metrics import mean_interval

Curve = tuple[np.ndarray, np.ndarray]
"""Environment steps and returns of one seed, (N,) each."""


def read_run(folder: Path, tag: str) -> Curve:
    """The curve of one run."""
    events = EventAccumulator(str(folder))
    events.Reload()
    scalars = events.Scalars(tag)
    return np.array([scalar.step for scalar in scalars]), np.array([scalar.value for scalar in scalars])


def read_published(path: Path, task: str, modality: str) -> dict[str, list[Curve]]:
    """Method -> curves of its seeds."""
    points: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    with gzip.open(path, "rt") as file:
        for row in csv.DictReader(file):
            if row["task"] == task and row["modality"] == modality:
                points[row["method"]][row["seed"]].append((float(row["env_step"]), float(row["return"])))
    return {
        method: [tuple(np.array(sorted(curve)).T) for curve in seeds.values()]  # type: ignore[misc]
        for method, seeds in points.items()
    }


def area(curve: Curve, first_step: float, last_step: float) -> float:
    """Mean return between two steps: the area under the curve, which is straight between points, over its length."""
    return float(np.interp(np.linspace(first_step, last_step, 1001), *curve).mean())


def covers(curve: Curve, steps: Sequence[int]) -> bool:
    """Whether the curve was measured near each of `steps`, and not only before and after."""
    return all(np.abs(curve[0] - step).min() <= 0.1 * steps[-1] for step in steps)


def at(curve: Curve, step: float) -> float:
    """Return at a step, straight between points."""
    return float(np.interp(step, *curve))


def with_interval(values: Sequence[float]) -> str:
    low, high = mean_interval(values)
    interval = f" ({low:.0f} to {high:.0f})" if len(values) > 1 else ""
    return f"{np.mean(values):.0f}{interval}"


def table(curves: dict[str, list[Curve]], steps: Sequence[int]) -> str:
    """Returns at `steps` and mean return between, means over seeds with bootstrap 95 % intervals over seeds."""
    header = ["method", "seeds", *(f"{step:,}" for step in steps), f"mean, {steps[0]:,} to {steps[-1]:,}"]
    rows = [header, ["---"] * len(header)]
    for method, seeds in curves.items():
        values = [with_interval([at(curve, step) for curve in seeds]) for step in steps]
        areas = with_interval([area(curve, steps[0], steps[-1]) for curve in seeds])
        rows.append([method, str(len(seeds)), *values, areas])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def draw(curves: dict[str, list[Curve]], last_step: float, title: str, path: Path) -> None:
    """Means over seeds, with the band between the lowest and the highest."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    grid = np.linspace(0.0, last_step, 201)
    for method, seeds in curves.items():
        values = np.stack([np.interp(grid, *curve, left=np.nan, right=np.nan) for curve in seeds])
        (line,) = axes.plot(grid, values.mean(0), label=f"{method} ({len(seeds)} seeds)")
        axes.fill_between(grid, values.min(0), values.max(0), color=line.get_color(), alpha=0.15)
    axes.set(title=title, xlabel="environment steps", ylabel="return of an episode", xlim=(0, last_step))
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
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    curves: dict[str, list[Curve]] = defaultdict(list)
    for run in options.runs:
        name, equals, folder = run.partition("=")
        path = Path(folder if equals else name)
        curves[name if equals else path.parent.name].append(read_run(path, options.tag))
    if options.published:
        published = read_published(options.published, options.task, options.modality)
        curves |= {f"{method}, published": seeds for method, seeds in published.items()}
    measured = {name: [seed for seed in seeds if covers(seed, options.steps)] for name, seeds in curves.items()}
    curves = {name: seeds for name, seeds in measured.items() if seeds}
    print(table(curves, options.steps))
    if options.picture:
        draw(curves, options.steps[-1], f"{options.task}, {options.modality}", options.picture)


if __name__ == "__main__":
    main()
