"""Compare gradient plans with MPPI on the same world model, paired by training seed.

    python benchmarks/rl_plans.py --tasks all --seeds 1 2 3 4 5 6
    python benchmarks/rl_plans.py --tasks tuning --seeds 11 12 13 \
        --arms MPPI gradient gradient-1 gradient-10 gradient-16 gradient-penalty
    python benchmarks/rl_plans.py --tasks confirming --seeds 21 22 23 24 25 26 --arms MPPI gradient CHOSEN

All of the following was fixed before the first run.

Question: does TD-MPC reach the same return if each action is planned by five Adam steps from six starts
(`rl/gradient_plans.yaml`) instead of MPPI with 512 samples and six iterations (`rl/td_mpc.yaml`)?

Arms: only the planner differs. Both have the same world model, losses, schedules, exploration noise and replay; runs
with the same seed have the same initial weights, the same random episodes at the start, and the same initial states.
The networks and schedules are those of `rl/short.yaml`, from the state, for 20,000 environment steps.

Tasks: the five of `benchmarks/results/rl.md`. Actions are repeated 8 times on cartpole-swingup and 4 times elsewhere.

Measure: the mean return of 10 episodes of the last checkpoint, without exploration noise, from initial states that
training does not use. Secondary, without a test: the mean return of the training episodes after the random ones, the
time of a plan, and environment steps per second of the whole run.

Seeds: 1 to 6 for the comparison. A seed counts if both arms of all tasks are complete.

Decision rule: for each seed, take the mean over tasks of the difference of returns, gradient plans minus MPPI. The
margin is 10 % of MPPI's mean return over tasks and seeds. Two one-sided paired t-tests over seeds (Schuirmann 1987),
each at 5 %: if both reject, the planners are equivalent; if only the test against a loss of the margin rejects,
gradient plans are not inferior. If a one-sided test at 5 % shows a loss above the margin, they are inferior. Otherwise
the question is open. In addition, a two-sided paired t-test at 5 % says whether there is a difference. The conclusions
hold for these five tasks: tasks are not treated as a sample.

Tuning: on two tasks (`tuning`), with seeds 11 to 13, the variants below are compared with `gradient`; the variant with
the highest mean return is chosen, and tested by the same rule on the other three tasks (`confirming`) with seeds 21 to
26.

Every result is appended to a file at once, and a run that is in the file is not repeated, so that the script may be
interrupted, and several may run side by side (`--part 0 2` and `--part 1 2`). Prints the tables at the end. Times are
processor seconds, which other programs on the machine lengthen less than seconds by the clock.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from results_file import Record, ResultsFile, add_options, own_part
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from difftori_pl.cli import run
from difftori_pl.evaluation.metrics import mean_interval

ACTION_REPEATS = {"cartpole-swingup": 8, "reacher-easy": 4, "walker-stand": 4, "walker-walk": 4, "cheetah-run": 4}
TUNING = ("cartpole-swingup", "walker-walk")
CONFIRMING = tuple(task for task in ACTION_REPEATS if task not in TUNING)

GRADIENT = ("--config=rl/gradient_plans.yaml",)
ARMS = {
    "MPPI": ("--config=rl/td_mpc.yaml",),
    "gradient": GRADIENT,
    "gradient-1": (*GRADIENT, "--model.planner.trajopt.n_starts=1"),
    "gradient-10": (*GRADIENT, "--model.planner.trajopt.solver.max_steps=10"),
    "gradient-16": (*GRADIENT, "--model.planner.trajopt.n_starts=16"),
    "gradient-penalty": (*GRADIENT, "--model.planner.disagreement_penalty=0.5"),
}
"""Options of each arm. `gradient-1` has no noisy copies; 10 are steps, 16 starts."""

MARGIN = 0.1
"""Fraction of the reference's mean return below which a difference counts as none."""

LEVEL = 0.05

QUIET = ("--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false", "--trainer.accelerator=cpu")

Returns = dict[str, dict[tuple[str, int], float]]
"""Arm -> (task, seed) -> return."""


class Study:
    """Runs whose results are in a file.

    Args:
        folder: folder of the runs.
        results: file of results.
        n_env_steps: length of a run.
        episodes: number of evaluation episodes.
    """

    def __init__(self, folder: Path, results: Path, n_env_steps: int, episodes: int) -> None:
        self.folder = folder
        self.results = ResultsFile(results)
        self.n_env_steps = n_env_steps
        self.episodes = episodes

    def records(self) -> list[Record]:
        """Read the results of runs of this length."""
        return self.results.records(n_env_steps=self.n_env_steps)

    def complete(self, task: str, seed: int, arms: Sequence[str]) -> None:
        """Run the missing arms of a task and a seed."""
        for arm in self.results.missing("arm", arms, task=task, seed=seed, n_env_steps=self.n_env_steps):
            self._add(task, seed, arm)

    def _add(self, task: str, seed: int, arm: str) -> None:
        words = [
            f"--config=rl_{task.replace('-', '_')}_state.yaml",
            *ARMS[arm],
            "--config=rl/short.yaml",
            f"--collect.env.action_repeat={ACTION_REPEATS[task]}",
            f"--collect.n_env_steps={self.n_env_steps}",
            "--rollout.every_n_env_steps=0",
            "--rollout.in_process=true",
            f"--seed_everything={seed}",
            f"--trainer.logger.save_dir={self.folder}",
            f"--trainer.logger.name={arm}_{task}_seed{seed}",
            *QUIET,
        ]
        began, processor = time.monotonic(), processor_seconds()
        fitted: Any = run(["fit", *words])
        seconds, processor = time.monotonic() - began, processor_seconds() - processor
        record: Record = {
            "task": task,
            "seed": seed,
            "arm": arm,
            "n_env_steps": self.n_env_steps,
            "returns": self._test(words, Path(fitted.trainer.log_dir) / "checkpoints" / "last.ckpt"),
            "training": training_returns(fitted.trainer.log_dir),
            "plan_ms": round(1000 * plan_seconds(fitted), 3),
            "seconds": round(seconds),
            "processor_seconds": round(processor),
        }
        self.results.add(record)
        print(f"{task} {seed} {arm}: {statistics.mean(record['returns']):.0f} after {seconds:.0f} s", flush=True)

    def _test(self, words: Sequence[str], checkpoint: Path) -> list[float]:
        trainer: Any = run(
            ["test", *words, f"--ckpt_path={checkpoint}", f"--rollout.n_episodes={self.episodes}"]
        ).trainer
        (path,) = Path(trainer.log_dir).glob("rollouts_step*_policy.jsonl")
        episodes = [json.loads(line) for line in path.read_text().splitlines()]
        return [round(episode["total_reward"], 2) for episode in sorted(episodes, key=lambda episode: episode["seed"])]


def processor_seconds() -> float:
    """Return the processor time of this process and of its finished children."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def plan_seconds(cli: Any, repeats: int = 200) -> float:
    """Measure the median processor time of choosing one action, in seconds."""
    module, spent = cli.model.eval(), []
    obs = {key: value[:1, :1] for key, value in cli.datamodule.sample()["obs"].items()}
    state = module.initial_state(1)
    for _ in range(repeats):
        began = time.process_time()
        with torch.no_grad():
            _, state = module.act(obs, state)
        spent.append(time.process_time() - began)
    return statistics.median(spent)


def training_returns(log_dir: str) -> list[tuple[int, float]]:
    """Read the environment step and the return of each training episode."""
    events = EventAccumulator(log_dir)
    events.Reload()
    return [(scalar.step, round(scalar.value, 2)) for scalar in events.Scalars("collect/return")]


def returns_of(records: Sequence[Record]) -> Returns:
    """Return the mean evaluation return of each run."""
    found: Returns = {}
    for record in records:
        found.setdefault(record["arm"], {})[record["task"], record["seed"]] = float(np.mean(record["returns"]))
    return found


def complete_seeds(found: Returns, arms: Sequence[str], tasks: Sequence[str]) -> list[int]:
    """List the seeds of which all arms and tasks are complete."""
    seeds = sorted({seed for arm in arms for _, seed in found.get(arm, {})})
    return [seed for seed in seeds if all((task, seed) in found.get(arm, {}) for arm in arms for task in tasks)]


def equivalence(differences: npt.NDArray[np.float64], margin: float) -> tuple[float, float, float]:
    """Test paired differences (N,) against a loss of `margin`, a gain of `margin`, and zero; return the p-values."""
    loss = stats.ttest_1samp(differences, -margin, alternative="greater").pvalue
    gain = stats.ttest_1samp(differences, margin, alternative="less").pvalue
    return float(loss), float(gain), float(stats.ttest_1samp(differences, 0.0).pvalue)


def conclusion(loss: float, gain: float) -> str:
    """Apply the decision rule to the p-values of the one-sided tests."""
    if loss < LEVEL:
        return "equivalent" if gain < LEVEL else "not inferior"
    # The test for a loss above the margin has the complementary p-value.
    return "inferior" if 1 - loss < LEVEL else "open"


def comparison(found: Returns, arm: str, reference: str, tasks: Sequence[str]) -> str:
    """Format the row of an arm against a reference; empty with fewer than two complete seeds."""
    seeds = complete_seeds(found, [arm, reference], tasks)
    if len(seeds) < 2:
        return f"| {arm} against {reference} | {len(seeds)} |  |  |  |  |  |"
    pairs = np.array([[found[arm][task, seed] - found[reference][task, seed] for task in tasks] for seed in seeds])
    margin = MARGIN * float(np.mean([[found[reference][task, seed] for task in tasks] for seed in seeds]))
    differences = pairs.mean(1)
    loss, gain, two_sided = equivalence(differences, margin)
    half = stats.t.ppf(1 - LEVEL, len(seeds) - 1) * differences.std(ddof=1) / len(seeds) ** 0.5
    mean = differences.mean()
    return (
        f"| {arm} against {reference} | {len(seeds)} | {mean:+.0f} ({mean - half:+.0f} to {mean + half:+.0f}) "
        f"| {margin:.0f} | {loss:.3f}, {gain:.3f} | {two_sided:.3f} | {conclusion(loss, gain)} |"
    )


def tables(records: Sequence[Record], arms: Sequence[str], tasks: Sequence[str]) -> str:
    """Format returns per task, paired differences per task, times, and the tests."""
    found = returns_of(records)
    reference, *others = arms
    lines = [row("task", "seeds", *arms, *(f"{arm} - {reference}" for arm in others))]
    lines.append("|" + "---|" * (2 + len(arms) + len(others)))
    for task in tasks:
        seeds = complete_seeds(found, arms, [task])
        values = {arm: [found[arm][task, seed] for seed in seeds] for arm in arms}
        paired = [[a - b for a, b in zip(values[arm], values[reference], strict=True)] for arm in others]
        cells = [with_interval(value) for value in values.values()]
        lines.append(row(task, str(len(seeds)), *cells, *(with_interval(one, "+.0f") for one in paired)))
    lines += [
        "",
        row("arm", "runs", "plan, ms", "environment steps per second", "return in training"),
        "|---" * 5 + "|",
    ]
    for arm in arms:
        runs = [record for record in records if record["arm"] == arm]
        if runs:
            speed = [record["n_env_steps"] / record["processor_seconds"] for record in runs]
            plan = statistics.median(record["plan_ms"] for record in runs)
            training = [statistics.mean(value for _, value in record["training"][2:]) for record in runs]
            lines.append(
                row(arm, str(len(runs)), f"{plan:.1f}", f"{statistics.median(speed):.0f}", f"{np.mean(training):.0f}")
            )
    lines += ["", row("comparison", "seeds", "difference (90 %)", "margin", "p of loss, gain", "p of 0", "conclusion")]
    lines += ["|---" * 7 + "|", *(comparison(found, arm, reference, tasks) for arm in others)]
    return "\n".join(lines)


def row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def with_interval(values: Sequence[float], form: str = ".0f") -> str:
    """Format a mean over seeds and its bootstrap 95 % interval."""
    if len(values) < 2:
        return "".join(format(value, form) for value in values)
    low, high = mean_interval(values)
    return f"{np.mean(values):{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["all"], help="names, or all, tuning or confirming")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5, 6], help="training seeds")
    parser.add_argument("--arms", nargs="+", default=["MPPI", "gradient"], choices=ARMS, help="the reference first")
    parser.add_argument("--n_env_steps", type=int, default=20_000, help="length of a run")
    parser.add_argument("--episodes", type=int, default=10, help="evaluation episodes of each run")
    parser.add_argument("--folder", type=Path, default=Path("rl_plans"), help="folder for the runs")
    add_options(parser, "rl_plans.jsonl")
    options = parser.parse_args()
    named = {"all": tuple(ACTION_REPEATS), "tuning": TUNING, "confirming": CONFIRMING}
    tasks = [task for name in options.tasks for task in named.get(name, (name,))]
    study = Study(options.folder, options.results, options.n_env_steps, options.episodes)
    jobs = [(seed, task) for seed in options.seeds for task in tasks]
    for seed, task in own_part(jobs, options):
        study.complete(task, seed, options.arms)
    wanted = [
        record for record in study.records()
        if record["task"] in tasks and record["seed"] in options.seeds and record["arm"] in options.arms
    ]  # fmt: skip
    print(tables(wanted, options.arms, tasks))
