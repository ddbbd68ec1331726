"""Compare DiffTORI and its base policy on Meta-World tasks from the same initial states.

python benchmarks/metaworld_tasks.py --tasks reach-v3 pick-place-v3 --episodes 30

Prints a table with one row for each task. Records demonstrations unless they exist, trains a base policy and DiffTORI
on it (`il_metaworld_state.yaml`), and evaluates both. Output is written below the current folder.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from difftori_pl.cli import main, run
from difftori_pl.evaluation.metrics import wilson

QUIET = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]


def row(task: str, options: argparse.Namespace) -> str:
    """Record, train and evaluate one task, and format its row of the table."""
    data = Path("demos/metaworld") / f"{task}.hdf5"
    if not data.exists():
        main(["demos", "metaworld", f"--task={task}", f"--episodes={options.episodes}", "--cloud=null"])
    arguments = [f"--data.task={task}", f"--trainer.logger.save_dir={options.runs}", *QUIET]
    fitted, base_time = timed(lambda: run(["fit", f"--config={options.base}", *arguments]))
    base = f"--model.base_policy.checkpoint={fitted.trainer.checkpoint_callback.last_model_path}"
    il = ["--config=il_metaworld_state.yaml", *arguments, base]
    fitted, il_time = timed(lambda: run(["fit", *il]))
    trained = f"--ckpt_path={fitted.trainer.checkpoint_callback.last_model_path}"
    rollouts = [
        f"--rollout.n_episodes={options.rollouts}",
        f"--rollout.n_envs={options.n_envs}",
        "--rollout.n_videos=0",
    ]
    trainer = run(["test", *il, trained, *rollouts]).trainer
    solved = {name: successes(Path(trainer.log_dir), name) for name in ("policy", "base")}
    gained = sum(ours and not base for ours, base in zip(*solved.values(), strict=True))
    lost = sum(base and not ours for ours, base in zip(*solved.values(), strict=True))
    rates = " | ".join(str(wilson(sum(solved[name]), len(solved[name]))) for name in ("base", "policy"))
    errors = " | ".join(
        f"{trainer.callback_metrics[f'test/{name}']:.4f}" for name in ("base_action_error", "action_error")
    )
    return f"| {task} | {rates} | {gained} / {lost} | {errors} | {base_time} | {il_time} |"


def timed(function: Callable[[], Any]) -> tuple[Any, str]:
    """Call a function, and return its result and its time: CPU seconds (wall-clock seconds)."""
    cpu, clock = time.process_time(), time.perf_counter()
    result = function()
    return result, f"{time.process_time() - cpu:.0f} s ({time.perf_counter() - clock:.0f} s)"


def successes(folder: Path, policy: str) -> list[bool]:
    """Return whether a policy solved each episode, in the order of the seeds."""
    (path,) = folder.glob(f"rollouts_step*_{policy}.jsonl")
    episodes = [json.loads(line) for line in path.read_text().splitlines()]
    return [episode["success"] for episode in sorted(episodes, key=lambda episode: episode["seed"])]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=["reach-v3"])
    parser.add_argument("--base", default="bc_metaworld_state.yaml", help="configuration of the base policy")
    parser.add_argument("--episodes", type=int, default=30, help="demonstrations per task")
    parser.add_argument("--rollouts", type=int, default=50, help="episodes per policy")
    parser.add_argument("--n_envs", type=int, default=2, help="number of parallel environments")
    parser.add_argument("--runs", default="runs", help="folder for logs and checkpoints")
    options = parser.parse_args()
    print(
        "| task | base | DiffTORI | gained / lost | base error | DiffTORI error | base training | DiffTORI training |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for task in options.tasks:
        print(row(task, options), flush=True)
