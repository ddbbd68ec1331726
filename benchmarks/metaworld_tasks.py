"""Compare policies on Meta-World tasks from the state observation, over training seeds and initial states.

    python benchmarks/metaworld_tasks.py --tasks tuning --seeds 1
    python benchmarks/metaworld_tasks.py --tasks reported --seeds 1 2 3 --plot tasks.svg
    python benchmarks/metaworld_tasks.py --tasks push --arm "reach 0.5" model.trajopt.solver.reach=0.5

For each task and seed: record demonstrations, train each policy by its shipped configuration, which selects a
checkpoint by its success on validation states, and test the selected and the last checkpoint on other states. Every
result is appended to a file at once, and what is in the file is not run again, so that a run may be interrupted and
several may run side by side (`--part 0 2` and `--part 1 2`). Prints the tables at the end.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from results_file import Record, ResultsFile, add_options, own_part

from difftori_pl.cli import main, run
from difftori_pl.evaluation.metrics import wilson

TUNING = ("assembly", "stick-push", "peg-insert-side", "hammer", "coffee-pull", "push")
"""Tasks on which the settings were chosen."""

REPORTED = (
    *("basketball", "bin-picking", "box-close", "coffee-push", "push-wall", "soccer", "sweep", "sweep-into"),
    *("hand-insert", "pick-out-of-hole", "pick-place", "push-back", "shelf-place", "disassemble", "stick-pull"),
    "pick-place-wall",
)
"""The other tasks above "easy" in DP3."""

CONFIGS = {
    "BC": "bc_metaworld_state.yaml",
    "residual": "residual_metaworld_state.yaml",
    "DiffTORI": "il_metaworld_state.yaml",
    "DiffTORI from zeros": "il_metaworld_zeros.yaml",
    "diffusion": "diffusion_metaworld_state.yaml",
    "DiffTORI on diffusion": "il_metaworld_state_diffusion.yaml",
}
BASES = {"residual": "BC", "DiffTORI": "BC", "DiffTORI on diffusion": "diffusion"}
"""Base policy of each refinement."""

OPTIONS = {"residual": "--model.policy.base.checkpoint"}
"""Option that names the base policy's run, if it is not `--model.base_policy.checkpoint`."""

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--rollout.n_videos=0")

Outcomes = npt.NDArray[np.int64]


class Study:
    """Runs whose results are in a file.

    Args:
        folder: folder of the demonstrations, runs and results.
        results: file of results.
        episodes: number of demonstrations of each task.
        rollouts: number of test episodes of each checkpoint.
        arms: variants of DiffTORI: name -> options in place of the configuration's.
    """

    def __init__(
        self, folder: Path, results: Path, episodes: int, rollouts: int, arms: Mapping[str, Sequence[str]]
    ) -> None:
        self.folder = folder
        self.results = ResultsFile(results)
        self.episodes = episodes
        self.rollouts = rollouts
        self.arms = arms

    def records(self) -> list[Record]:
        """Read all results."""
        return self.results.records()

    def complete(self, task: str, seed: int, policies: Sequence[str]) -> None:
        """Run what is missing of a task and a training seed."""
        for policy in self.results.missing("policy", policies, task=task, seed=seed):
            self._add(task, seed, policy)

    def _add(self, task: str, seed: int, policy: str) -> None:
        data = self.folder / "demos" / f"{task}-v3.hdf5"
        if not data.exists():
            output = ["--cloud=null", f"--output={data}", "--n_processes=1"]
            main(["demos", "metaworld", f"--task={task}-v3", f"--episodes={self.episodes}", *output])
        method = "DiffTORI" if policy in self.arms else policy
        words = [
            f"--config={CONFIGS[method]}",
            f"--data.task={task}-v3",
            f"--data.path={data}",
            f"--seed_everything={seed}",
            f"--trainer.logger.save_dir={self.folder / 'runs'}",
            f"--trainer.logger.name={self._name(task, seed, policy)}",
            *self.arms.get(policy, ()),
            *QUIET,
        ]
        if method in BASES:
            base = self.folder / "runs" / self._name(task, seed, BASES[method])
            words.append(f"{OPTIONS.get(method, '--model.base_policy.checkpoint')}={base}")
        began = time.process_time()
        fitted = run(["fit", *words]).trainer
        seconds = time.process_time() - began
        checkpoint = fitted.checkpoint_callback
        tested = {
            name: self._test(words, path)
            for name, path in (("selected", checkpoint.best_model_path), ("last", checkpoint.last_model_path))
        }
        validation = [
            [int(path.stem.removeprefix("rollouts_step").split("_")[0]), sum(successes(path))]
            for path in Path(fitted.log_dir).glob("rollouts_step*_policy.jsonl")
        ]
        record = {
            "task": task,
            "seed": seed,
            "policy": policy,
            "step": checkpoint.best_step,
            "validation": sorted(validation),
            "cpu_seconds": round(seconds),
            **tested,
        }
        self.results.add(record)
        print(f"{task} {seed} {policy}: {sum(record['selected'])}, last {sum(record['last'])}", flush=True)

    def _test(self, words: Sequence[str], checkpoint: str) -> list[int]:
        rollouts = [f"--rollout.n_episodes={self.rollouts}", "--rollout.compare=false"]
        trainer = run(["test", *words, f"--ckpt_path={checkpoint}", *rollouts]).trainer
        (path,) = Path(trainer.log_dir).glob("rollouts_step*_policy.jsonl")
        return successes(path)

    def _name(self, task: str, seed: int, policy: str) -> str:
        return re.sub(r"[^\w.-]+", "_", f"{policy}_{task}_seed{seed}")


def successes(path: Path) -> list[int]:
    """Return 1 for each solved episode in a file, else 0, in the order of the initial states."""
    episodes = [json.loads(line) for line in path.read_text().splitlines()]
    return [int(episode["success"]) for episode in sorted(episodes, key=lambda episode: episode["seed"])]


def outcomes(records: Iterable[Record], checkpoint: str) -> dict[str, dict[tuple[str, int], Outcomes]]:
    """Return policy -> (task, seed) -> outcomes (N,) of the test episodes."""
    found: dict[str, dict[tuple[str, int], Outcomes]] = {}
    for record in records:
        found.setdefault(record["policy"], {})[record["task"], record["seed"]] = np.array(record[checkpoint])
    return found


def interval(differences: dict[tuple[str, int], Outcomes], n_resamples: int = 10_000) -> tuple[float, float, float]:
    """Return the mean difference of success rates over tasks, and its 95 % interval by a hierarchical bootstrap.

    Tasks are resampled, within them training seeds, and within these initial states (paired).

    Args:
        differences: (task, seed) -> differences of outcomes (N,) on the same initial states.
        n_resamples: number of bootstrap samples.
    """
    random = np.random.default_rng(0)
    tasks: dict[str, list[Outcomes]] = {}
    for (task, _), values in sorted(differences.items()):
        tasks.setdefault(task, []).append(values)
    groups = list(tasks.values())

    def draw(values: Outcomes) -> float:
        # The mean of N resampled differences in {-1, 0, 1} depends on their counts only.
        counts = random.multinomial(len(values), [(values == value).mean() for value in (-1, 0, 1)])
        return float(counts[2] - counts[0]) / len(values)

    means = []
    for _ in range(n_resamples):
        chosen = [groups[i] for i in random.integers(len(groups), size=len(groups))]
        means.append(
            np.mean(
                [np.mean([draw(seeds[i]) for i in random.integers(len(seeds), size=len(seeds))]) for seeds in chosen]
            )
        )
    mean = float(np.mean([np.mean([values.mean() for values in seeds]) for seeds in groups]))
    low, high = np.quantile(means, [0.025, 0.975])
    return mean, float(low), float(high)


def tables(records: Sequence[Record]) -> str:
    """Format successes per task, and the comparisons over tasks; variants appear in the latter only."""
    found = outcomes(records, "selected")
    policies = shipped(found)
    variants = [name for name in found if name not in CONFIGS]
    keys = sorted({key for policy in policies for key in found[policy]})
    lines = [f"| task | seeds | {' | '.join(policies)} | gained / lost |", "|---|---|" + "---|" * (len(policies) + 1)]
    for task in dict.fromkeys(task for task, _ in keys):
        pooled = {policy: pool(found[policy], task) for policy in policies}
        cells = [str(wilson(int(values.sum()), len(values))) if len(values) else "" for values in pooled.values()]
        paired = ""
        if {"BC", "DiffTORI"} <= {*policies} and len(pooled["BC"]) == len(pooled["DiffTORI"]) > 0:
            gain = pooled["DiffTORI"] - pooled["BC"]
            paired = f"{int((gain > 0).sum())} / {int((gain < 0).sum())}"
        n_seeds = len({seed for name, seed in keys if name == task})
        lines.append(f"| {task} | {n_seeds} | {' | '.join(cells)} | {paired} |")
    lines += ["", *totals(found, policies)]
    lines += ["", "| comparison | checkpoint | difference (95 %) | ahead / equal / behind |", "|---|---|---|---|"]
    pairs = [*BASES.items(), ("DiffTORI", "residual"), ("DiffTORI from zeros", "BC")]
    pairs += [(variant, "DiffTORI") for variant in variants]
    for checkpoint in ("selected", "last"):
        lines += [comparison(outcomes(records, checkpoint), *pair, checkpoint) for pair in pairs if {*pair} <= {*found}]
    return "\n".join(lines)


def totals(found: dict[str, dict[tuple[str, int], Outcomes]], policies: Sequence[str]) -> list[str]:
    """Format the successes of all tasks and seeds that every policy has; gained and lost against behaviour cloning."""
    common = sorted(set.intersection(*({*found[policy]} for policy in policies)))
    lines = ["| policy | tasks and seeds | success | gained / lost |", "|---|---|---|---|"]
    for policy in policies:
        values = np.concatenate([found[policy][key] for key in common])
        paired = ""
        if "BC" in found and policy != "BC":
            gain = values - np.concatenate([found["BC"][key] for key in common])
            paired = f"{int((gain > 0).sum())} / {int((gain < 0).sum())}"
        lines.append(f"| {policy} | {len(common)} | {wilson(int(values.sum()), len(values))} | {paired} |")
    return lines


def shipped(found: Mapping[str, Any]) -> list[str]:
    """Return the policies of shipped configurations, in the order of `CONFIGS`."""
    return [name for name in CONFIGS if name in found]


def pool(found: dict[tuple[str, int], Outcomes], task: str) -> Outcomes:
    """Concatenate the outcomes of a task over training seeds."""
    values = [value for (name, _), value in sorted(found.items()) if name == task]
    return np.concatenate(values) if values else np.zeros(0, np.int64)


def comparison(found: dict[str, dict[tuple[str, int], Outcomes]], policy: str, other: str, checkpoint: str) -> str:
    """Format the row that compares two policies over the tasks that both have."""
    common = found[policy].keys() & found[other].keys()
    differences = {key: found[policy][key] - found[other][key] for key in common}
    mean, low, high = (100 * value for value in interval(differences))
    totals: dict[str, int] = {}
    for (task, _), values in differences.items():
        totals[task] = totals.get(task, 0) + int(values.sum())
    counts = [sum(test(total) for total in totals.values()) for test in SIGNS]
    return (
        f"| {policy} against {other} | {checkpoint} | {mean:+.1f} ({low:+.1f} to {high:+.1f}) percentage points "
        f"| {counts[0]} / {counts[1]} / {counts[2]} |"
    )


SIGNS: tuple[Callable[[int], bool], ...] = (lambda n: n > 0, lambda n: n == 0, lambda n: n < 0)


def plot(records: Sequence[Record], path: Path) -> None:
    """Draw the success rates with Wilson intervals, one row per task."""
    from matplotlib.figure import Figure

    found = outcomes(records, "selected")
    policies = shipped(found)
    tasks = sorted({task for policy in policies for task, _ in found[policy]})
    figure = Figure(figsize=(7, 1 + 0.32 * len(tasks)), layout="constrained")
    panel = figure.subplots()
    for number, policy in enumerate(policies):
        offset = 0.16 * (number - (len(policies) - 1) / 2)
        panel.plot([], [], "o-", color=f"C{number}", markersize=4, label=policy)  # an entry of the legend
        for place, task in enumerate(tasks):
            values = pool(found[policy], task)
            if len(values):
                rate = wilson(int(values.sum()), len(values))
                panel.plot([rate.low, rate.high], [place + offset] * 2, color=f"C{number}", linewidth=2)
                panel.plot(rate.rate, place + offset, "o", color=f"C{number}", markersize=4)
    panel.set(xlim=(-0.02, 1.02), xlabel="success rate (Wilson 95 %)")
    panel.set_yticks(range(len(tasks)), tasks)
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    panel.legend(loc="lower left", fontsize="small")
    figure.savefig(path)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["push"], help="names without -v3, or tuning, or reported")
    parser.add_argument("--seeds", nargs="*", type=int, default=[1], help="training seeds; none: only print the tables")
    parser.add_argument("--policies", nargs="+", default=["BC", "residual", "DiffTORI"], choices=CONFIGS)
    parser.add_argument(
        "--arm", nargs="+", action="append", default=[], metavar=("NAME", "OPTION=VALUE"), help="a variant of DiffTORI"
    )
    parser.add_argument("--episodes", type=int, default=10, help="demonstrations of each task")
    parser.add_argument("--rollouts", type=int, default=50, help="test episodes of each checkpoint")
    parser.add_argument("--folder", type=Path, default=Path("metaworld"), help="folder for demonstrations and runs")
    add_options(parser, "metaworld.jsonl")
    parser.add_argument("--plot", type=Path, help="draw the success rates into this file")
    options = parser.parse_args()
    named = {"tuning": TUNING, "reported": REPORTED}
    tasks = [task for name in options.tasks for task in named.get(name, (name,))]
    arms = {f"DiffTORI, {name}": [f"--{word}" for word in words] for name, *words in options.arm}
    study = Study(options.folder, options.results, options.episodes, options.rollouts, arms)
    own_tasks = own_part(tasks, options)  # seeds of a task share a file of demonstrations, which one process records
    for seed in options.seeds:
        for task in own_tasks:
            study.complete(task, seed, [*options.policies, *arms])
    records = [record for record in study.records() if record["task"] in tasks]
    print(tables(records))
    if options.plot:
        plot(records, options.plot)
