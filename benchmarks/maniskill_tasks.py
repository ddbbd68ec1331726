"""BC, BC + residual and DiffTORI + BC on a ManiSkill2 task from the same initial states: the rows of a table.

python benchmarks/maniskill_tasks.py                                           # PickCube from state
python benchmarks/maniskill_tasks.py --data.task StackCube-v0 --data.obs_dims '{state: 55}'
python benchmarks/maniskill_tasks.py --name pickcube --rollouts 10             # from clouds

Records demonstrations unless `demos/<task>` has them or `--data.path` says where they are. Other options are those of
`difftori fit`, for all policies. Everything is written below the current folder.
"""

import argparse
from pathlib import Path
from typing import Any

from metaworld_tasks import QUIET, successes, timed

from difftori_pl.cli import main, run
from difftori_pl.evaluation.metrics import wilson


def rows(options: argparse.Namespace, own: list[str]) -> list[str]:
    """Train and evaluate."""
    own = [*own, *QUIET, f"--trainer.logger.save_dir={options.runs}"]
    base, base_time = fitted([f"--config=bc_{options.name}.yaml", *own])
    residual = [f"--config=residual_{options.name}.yaml", *own, f"--model.policy.base.checkpoint={base}"]
    difftori = [f"--config=il_{options.name}.yaml", *own, f"--model.base_policy.checkpoint={base}"]
    found = []
    for label, arguments in (("BC + residual", residual), ("DiffTORI + BC", difftori)):
        trained, took = fitted(arguments)
        rollouts = [
            f"--rollout.n_episodes={options.rollouts}",
            f"--rollout.n_envs={options.n_envs}",
            "--rollout.n_videos=0",
        ]
        trainer = run(["test", *arguments, f"--ckpt_path={trained}", *rollouts]).trainer
        before, after = (successes(Path(trainer.log_dir), name) for name in ("base", "policy"))
        found.append(row(label, before, after, trainer.callback_metrics["test/action_error"], took))
    # DiffTORI's test says what the action error of its base is.
    return [row("BC", before, before, trainer.callback_metrics["test/base_action_error"], base_time), *found]


def fitted(arguments: list[str]) -> tuple[str, str]:
    """Train; the checkpoint, and how long it took."""
    result, took = timed(lambda: run(["fit", *arguments]))
    return result.trainer.checkpoint_callback.last_model_path, took


def row(label: str, before: list[bool], after: list[bool], error: Any, took: str) -> str:
    """One row of the table."""
    gained = sum(ours and not base for ours, base in zip(after, before, strict=True))
    lost = sum(base and not ours for ours, base in zip(after, before, strict=True))
    return f"| {label} | {wilson(sum(after), len(after))} | {gained} / {lost} | {error:.4f} | {took} |"


def recorded(task: str, name: str, episodes: int) -> None:
    """Plan demonstrations that are not there."""
    if not (Path("demos") / task / "trajectory.state.pd_ee_delta_pose.h5").exists():
        clouds: list[Any] = ["--cloud=null"] if name.endswith("_state") else []
        main(["demos", "maniskill", f"--task={task}", f"--episodes={episodes}", *clouds])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", default="pickcube_state", help="the configurations bc_, residual_ and il_<name>.yaml")
    parser.add_argument("--data.task", dest="task", default="PickCube-v0", help="ManiSkill2's name of the task")
    parser.add_argument("--episodes", type=int, default=100, help="demonstrations, where there are none")
    parser.add_argument("--rollouts", type=int, default=100, help="episodes of each policy")
    parser.add_argument("--n_envs", type=int, default=2, help="environments at a time")
    parser.add_argument("--runs", default="runs", help="folder for logs and checkpoints")
    options, own = parser.parse_known_args()
    if not any(argument.startswith("--data.path") for argument in own):
        recorded(options.task, options.name, options.episodes)
    print("| policy | success | gained / lost | action error | trained |")
    print("|---|---|---|---|---|")
    for line in rows(options, [f"--data.task={options.task}", *own]):
        print(line, flush=True)
