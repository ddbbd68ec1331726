"""Tables of the paper with the success rates of our runs and the published ones."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from difftori_pl.errors import ConfigurationError, MissingPackageError
from difftori_pl.evaluation.proportion import Proportion, wilson

PUBLISHED = Path(__file__).parent / "published.csv"
"""Tables 1 to 6 of the paper (arXiv:2402.05421): means and standard deviations over training seeds.

Methods are patterns: `[!NZ]*` matches every base policy except Noise and Zeros. The controller is `position` for
absolute actions; `demos` is a folder in the path of the demonstrations, as in robomimic's downloads (ph, mh).
"""


@dataclass(frozen=True)
class Evaluation:
    """Episodes of one policy of one run.

    Attributes:
        name: `policy` for the trained policy, `base` for its base policy.
        task: the environment's name of the task.
        method: classes of the policy and its base policies, e.g. `DiffTORIIL + BCRNNGMM`.
        horizon: planning horizon.
        episodes: seed -> values of the episode.
        run: the training run.
        selected: whether the checkpoint was selected by rollouts in training (`best.ckpt`).
        is_biased: whether the selection used initial states of this evaluation.
        controller: `position` for absolute actions in robosuite, otherwise empty.
        data: path of the demonstrations; empty if it is unknown.
    """

    name: str
    task: str
    method: str
    horizon: int
    episodes: dict[int, dict[str, Any]]
    run: str = ""
    selected: bool = False
    is_biased: bool = False
    controller: str = ""
    data: str = ""

    @property
    def n_successes(self) -> int:
        """Number of successful episodes."""
        return sum(bool(episode["success"]) for episode in self.episodes.values())


@dataclass(frozen=True)
class Cell:
    """Results of one method on one task.

    Attributes:
        label: the paper's name of the method.
        task: the environment's name of the task, and the kind of demonstrations if the table has several.
        published: mean and standard deviation over training seeds, as printed.
        success: our success rate over the episodes of all runs, with the selected checkpoint of each run if there is
            one, else with the last one.
        max_reward: mean of the largest reward of each episode, which is the paper's score for Push-T.
        n_runs: number of our runs.
        last: success rate of the last checkpoints of the runs whose selected checkpoint counts; None without such runs.
        is_biased: whether a selection used initial states of the evaluation.
    """

    label: str
    task: str
    published: tuple[float, float]
    success: Proportion
    max_reward: float
    n_runs: int
    last: Proportion | None = None
    is_biased: bool = False

    def __str__(self) -> str:
        paper = f"{self.published[0]:.2f} ± {self.published[1]:.2f}"
        if self.n_runs == 0:
            return f"– / {paper}"
        reward = f", score {self.max_reward:.2f}" if self.task == "PushT" else ""
        runs = f", {self.n_runs} runs" if self.n_runs > 1 else ""
        last = f", last {self.last}" if self.last else ""
        return f"{self.success}{'†' if self.is_biased else ''}{reward}{runs}{last} / {paper}"


@dataclass(frozen=True)
class Table:
    """A table of the paper.

    Attributes:
        name: its name on the command line.
        cells: the cells, row by row.
    """

    name: str
    cells: Sequence[Cell]

    def markdown(self) -> str:
        """Return a Markdown table; each cell has our result with its Wilson 95 % interval, a slash, and the paper's."""
        tasks, labels = _unique(cell.task for cell in self.cells), _unique(cell.label for cell in self.cells)
        at = {(cell.label, cell.task): cell for cell in self.cells}
        lines = [f"| ours / paper | {' | '.join(tasks)} |", "|---|" + "---|" * len(tasks)]
        lines += [f"| {label} | {' | '.join(str(at[label, task]) for task in tasks)} |" for label in labels]
        notes = [
            "",
            "Ours: success rate with Wilson 95 % interval. Paper: mean ± standard deviation over training seeds.",
        ]
        if any(cell.last for cell in self.cells):
            notes.append("First the checkpoints that were selected by rollouts in training, then the last ones.")
        if any(cell.is_biased for cell in self.cells):
            notes.append("† The checkpoint was selected on initial states of this evaluation: the figure is too high.")
        if "PushT" in tasks:
            notes.append("For Push-T, the paper reports the score, the mean of each episode's largest coverage.")
        return "\n".join(lines + notes)

    def csv(self) -> str:
        """Return CSV text with one line per cell."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(
            [
                *(
                    "table",
                    "method",
                    "task",
                    "rate",
                    "low",
                    "high",
                    "n_successes",
                    "n_episodes",
                    "n_runs",
                    "max_reward",
                ),
                *("published_rate", "published_std", "last_rate", "is_biased"),
            ]
        )
        for cell in self.cells:
            ours = [*cell.success, cell.n_runs, cell.max_reward] if cell.n_runs else [""] * 7
            last = [cell.last.rate if cell.last else "", cell.is_biased if cell.n_runs else ""]
            writer.writerow([self.name, cell.label, cell.task, *ours, *cell.published, *last])
        return text.getvalue()

    def plot(self, path: Path) -> None:
        """Plot our success rates with intervals and the published ones, one panel per task.

        Raises:
            MissingPackageError: matplotlib is not installed.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise MissingPackageError("drawing needs matplotlib: pip install 'difftori-pl[plot]'") from error
        tasks = _unique(cell.task for cell in self.cells)
        height = 1.2 + 0.35 * len(self.cells) / len(tasks)
        figure = Figure(figsize=(3.2 * len(tasks) + 1.5, height), layout="constrained")
        panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
        for panel, task in zip(panels, tasks, strict=True):
            column = [cell for cell in self.cells if cell.task == task]
            places = range(len(column))
            panel.scatter([cell.published[0] for cell in column], places, marker="|", s=200, color="0.6", label="paper")
            for place, cell in zip(places, column, strict=True):
                if cell.n_runs:
                    panel.plot([cell.success.low, cell.success.high], [place, place], color="C0", linewidth=2)
            ours = [(cell.success.rate, place) for place, cell in zip(places, column, strict=True) if cell.n_runs]
            panel.scatter([rate for rate, _ in ours], [place for _, place in ours], color="C0", label="ours", zorder=3)
            panel.set(title=task, xlim=(-0.02, 1.02), xlabel="success rate")
            panel.set_yticks(list(places), [cell.label for cell in column])
            panel.grid(axis="x", alpha=0.3)
        panels[0].invert_yaxis()
        panels[-1].legend(loc="lower left")
        figure.savefig(path, dpi=150)


def make_table(name: str, runs: Path) -> Table:
    """Make a table of the paper from the evaluated runs in a folder.

    The latest evaluation of each training run counts. Evaluations by `test` take precedence over those by `fit`, and
    the checkpoint that was selected in training over the last one, which is shown too. Several runs of a method on a
    task are pooled. The evaluation of a base policy during another run counts only if no run of the base policy itself
    was evaluated, and only once.

    Args:
        name: name of the table.
        runs: the folder, searched recursively.

    Raises:
        ConfigurationError: the table is unknown, or the folder has no evaluated run.
    """
    with PUBLISHED.open(newline="") as file:
        published = list(csv.DictReader(file))
    names = _unique(row["table"] for row in published)
    if name not in names:
        raise ConfigurationError(f"expected one of the tables {', '.join(names)}, got {name!r}: choose one of these")
    evaluations = list(read_evaluations(runs))
    if not evaluations:
        raise ConfigurationError(
            f"found no evaluated run in {runs}: run `lightning test --config ... --ckpt_path ...`, which writes "
            "rollouts_*.jsonl to its log folder, or set --runs to another folder"
        )
    return Table(name, [_cell(row, evaluations) for row in published if row["table"] == name])


def read_evaluations(runs: Path) -> Iterator[Evaluation]:
    """Read the latest evaluation of each policy of each training run in a folder; `test` takes precedence over `fit`.

    A run yields two evaluations of the trained policy if its selected and its last checkpoint were evaluated.
    Evaluations of the same checkpoint from different initial states are merged. An evaluation in which every episode
    crashed is ignored, because the success rate is unknown.
    """
    found: dict[tuple[str, str, bool], dict[tuple[bool, int], list[Path]]] = {}
    for path in sorted(runs.rglob("rollouts_step*_*.json"), key=lambda path: path.stat().st_mtime):
        step, name = path.stem.removeprefix("rollouts_step").split("_", 1)
        description = json.loads(path.read_text())
        # Files of early versions do not name their run, so the run is identified by their folder.
        run = description.get("run", str(path.parent))
        selected = name == "policy" and str(description.get("checkpoint")).startswith("best")
        found.setdefault((run, name, selected), {}).setdefault(
            (description.get("stage") == "test", int(step)), []
        ).append(path)
    for (run, name, selected), evaluations in sorted(found.items()):
        parts = evaluations[max(evaluations)]
        description = json.loads(parts[-1].read_text())
        episodes: dict[int, dict[str, Any]] = {}
        for path in parts:
            for lines in path.parent.glob(f"{path.stem}*.jsonl"):  # one per rank
                episodes |= {episode["seed"]: episode for episode in map(json.loads, lines.read_text().splitlines())}
        if any(not episode.get("crash") for episode in episodes.values()):
            first, n_states = description.get("selected_on") or (0, 0)
            is_biased = selected and any(seed in range(first, first + n_states) for seed in episodes)
            task, method, horizon = description["task"], description["method"], int(description["horizon"])
            facts = (str(description.get(key) or "") for key in ("controller", "data"))
            yield Evaluation(name, task, method, horizon, episodes, run, selected, is_biased, *facts)


def _cell(row: dict[str, str], evaluations: Sequence[Evaluation]) -> Cell:
    fitting = [
        evaluation
        for evaluation in evaluations
        if evaluation.task == row["task"]
        and fnmatch(evaluation.method, row["method"])
        and row["horizon"] in ("", str(evaluation.horizon))
        and row["controller"] == evaluation.controller
        and (not row["demos"] or row["demos"] in Path(evaluation.data).parts)
    ]
    trained = [evaluation for evaluation in fitting if evaluation.name == "policy"]
    selecting = {evaluation.run for evaluation in trained if evaluation.selected}
    used = [evaluation for evaluation in trained if evaluation.selected or evaluation.run not in selecting] or fitting[
        :1
    ]
    last = [evaluation for evaluation in trained if not evaluation.selected and evaluation.run in selecting]
    episodes = [episode for evaluation in used for episode in evaluation.episodes.values()]
    return Cell(
        label=row["label"],
        task=f"{row['task']} ({row['demos']})" if row["demos"] else row["task"],
        published=(float(row["rate"]), float(row["std"])),
        success=_success(used),
        max_reward=sum(episode.get("max_reward", 0.0) for episode in episodes) / max(len(episodes), 1),
        n_runs=len(used),
        last=_success(last) if last else None,
        is_biased=any(evaluation.is_biased for evaluation in used),
    )


def _success(evaluations: Sequence[Evaluation]) -> Proportion:
    n_episodes = sum(len(evaluation.episodes) for evaluation in evaluations)
    return wilson(sum(evaluation.n_successes for evaluation in evaluations), n_episodes)


def _unique(values: Iterator[str]) -> list[str]:
    return list(dict.fromkeys(values))
