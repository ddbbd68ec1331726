"""Compare BC, BC + residual and DiffTORI + BC on a ManiSkill2 task from the same initial states.

python benchmarks/maniskill_tasks.py                                           # PickCube from state
python benchmarks/maniskill_tasks.py --data.task StackCube-v0 --data.obs_dims '{state: 55}'
python benchmarks/maniskill_tasks.py --name pickcube --rollouts 10             # from clouds

Prints a table with one row for each policy. Demonstrations are recorded unless they exist in `demos/<task>` or
`--data.path` names a file. Other options are passed to `difftori fit` for every policy. Output is written below the
current folder.
"""

import argparse
import time
from pathlib import Path
from typing import Any

from metaworld_tasks import QUIET, successes

from difftori_pl.cli import main, run
from difftori_pl.evaluation.metrics import wilson


def rows(options: argparse.Namespace, extra: list[str]) -> list[str]:
    """Train and evaluate the three policies, and return their rows of the table."""
    extra = [*extra, *QUIET, f"--trainer.logger.save_dir={options.runs}"]
    base, base_time = fit([f"--config=bc_{options.name}.yaml", *extra])
    residual = [f"--config=residual_{options.name}.yaml", *extra, f"--model.policy.base.checkpoint={base}"]
    difftori = [f"--config=il_{options.name}.yaml", *extra, f"--model.base_policy.checkpoint={base}"]
    found = []
    for label, arguments in (("BC + residual", residual), ("DiffTORI + BC", difftori)):
        trained, took = fit(arguments)
        rollouts = [
            f"--rollout.n_episodes={options.rollouts}",
            f"--rollout.n_envs={options.n_envs}",
            "--rollout.n_videos=0",
        ]
        trainer = run(["test", *arguments, f"--ckpt_path={trained}", *rollouts]).trainer
        before, after = (
            successes(*Path(trainer.log_dir).glob(f"rollouts_step*_{name}.jsonl")) for name in ("base", "policy")
        )
        found.append(row(label, before, after, trainer.callback_metrics["test/action_error"], took))
    # Testing DiffTORI also logs the action error of its base policy.
    return [row("BC", before, before, trainer.callback_metrics["test/base_action_error"], base_time), *found]


def fit(arguments: list[str]) -> tuple[str, str]:
    """Train, and return the checkpoint and the processor time."""
    began = time.process_time()
    result = run(["fit", *arguments])
    return result.trainer.checkpoint_callback.last_model_path, f"{time.process_time() - began:.0f} s"


def row(label: str, before: list[int], after: list[int], error: Any, took: str) -> str:
    """Format one row of the table."""
    gained = sum(ours and not base for ours, base in zip(after, before, strict=True))
    lost = sum(base and not ours for ours, base in zip(after, before, strict=True))
    return f"| {label} | {wilson(sum(after), len(after))} | {gained} / {lost} | {error:.4f} | {took} |"


def record(task: str, name: str, episodes: int) -> None:
    """Record planned demonstrations if the file does not exist."""
    if not (Path("demos") / task / "trajectory.state.pd_ee_delta_pose.h5").exists():
        clouds: list[Any] = ["--cloud=null"] if name.endswith("_state") else []
        main(["demos", "maniskill", f"--task={task}", f"--episodes={episodes}", *clouds])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="pickcube_state", help="use the configurations {bc,residual,il}_<name>.yaml")
    parser.add_argument("--data.task", dest="task", default="PickCube-v0", help="ManiSkill2 task")
    parser.add_argument("--episodes", type=int, default=100, help="number of demonstrations to record")
    parser.add_argument("--rollouts", type=int, default=100, help="episodes per policy")
    parser.add_argument("--n_envs", type=int, default=2, help="number of parallel environments")
    parser.add_argument("--runs", default="runs", help="folder for logs and checkpoints")
    options, extra = parser.parse_known_args()
    if not any(argument.startswith("--data.path") for argument in extra):
        record(options.task, options.name, options.episodes)
    print("| policy | success | gained / lost | action error | training |")
    print("|---|---|---|---|---|")
    for line in rows(options, [f"--data.task={options.task}", *extra]):
        print(line, flush=True)
