"""Normal runs print only lines that are meant for their user."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

SPEED = r"[\d.,]+ (it/s|s/it|steps/s|s/step)"
PARAMETERS = r"[\d,]+ parameters trained, [\d,]+ frozen \(cpu\)"
ALLOWED = {
    "the size of the policy": f"DiffTORIIL: {PARAMETERS}",
    "its range": r"the optimiser moves an action by at most [\d.]+ standard deviations from the base policy's",
    "its last line of progress": rf"step 2/2 · loss \S+ · val error \S+ · ({SPEED} · )?took \d+ s",
    "the checkpoint to use": r"saved .*\.ckpt",
    "the tested checkpoint": r"Loaded model weights from the checkpoint at .*last\.ckpt",
    "its errors": r"squared error of the actions on test demonstrations, in training units: policy \S+, base \S+",
    "the size of the agent": f"DiffTORIRL: {PARAMETERS}",
    "the head of the table": r"\| policy \| success \(Wilson 95 %\) \| return \(95 %\) \| .*",
    "its rule": r"\|(---\|)+",
    "its row": r"\| policy \| [0-2]/2 = \d+ % \(\d+ to \d+\) \| [\d.]+ \([\d.]+ to [\d.]+\) \| [\d. |]+",
    "the folder of the files": r"log: \S+",
    "the agent's last line of progress": rf"env step 120/120 · return [\d.]+ · ({SPEED} · )?took \d+ s",
}

RUNS = """
import sys
from difftori_pl.cli import main
for command in sys.argv[1].split("NEXT"):
    main(command.split())
"""


def test_standard_error_of_normal_runs(quick: list[str], low_dim_base: Path, tmp_path: Path) -> None:
    square = ["--config=il_square_low_dim.yaml", *quick, "--rollout.env=null"]
    base = f"--model.base_policy.checkpoint={low_dim_base}"  # frozen, hence in evaluation mode
    point = [f"--config={ROOT}/tests/rl.yaml", "--rollout.env=tests.envs.Point", "--rollout.n_episodes=2"]
    point += ["--rollout.n_envs=1", "--rollout.n_videos=1", "--rollout.every_n_env_steps=96"]
    as_usual = [f"--trainer.{name}=null" for name in ("enable_progress_bar", "enable_model_summary")]
    as_usual += ["--trainer.log_every_n_steps=null", f"--trainer.logger.save_dir={tmp_path}"]
    runs = [
        ["fit", *square, base, "--trainer.max_steps=2", "--trainer.limit_train_batches=2", "--trainer.logger.name=il"],
        ["test", *square, "--trainer.logger.name=il_test", f"--ckpt_path={checkpoint(tmp_path / 'il')}"],
        ["fit", *point],
        ["test", *point, f"--ckpt_path={checkpoint(tmp_path / 'point')}"],
    ]
    commands = "NEXT".join(" ".join([*run, *as_usual]) for run in runs)
    assert len(" ".join(runs[0]).split()) == len(runs[0]), "a path has a space"
    done = subprocess.run(
        [sys.executable, "-c", RUNS, commands],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    known = [name for name, pattern in ALLOWED.items() if any(re.fullmatch(pattern, line) for line in lines)]
    assert known == list(ALLOWED), done.stderr
    strange = [line for line in lines if not any(re.fullmatch(pattern, line) for pattern in ALLOWED.values())]
    assert strange == []


def checkpoint(run: Path) -> Path:
    """Return the path of the checkpoint that a run will write."""
    return run / "version_0" / "checkpoints" / "last.ckpt"


def test_the_same_runs_are_not_quiet_without_the_filters(quick: list[str], tmp_path: Path) -> None:
    without = "import difftori_pl.training as training; training.leave_out_messages = lambda: None\n" + RUNS
    command = ["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, "--trainer.max_steps=1", "--rollout.env=null"]
    command += ["--model.policy.hidden_dim=8", f"--trainer.logger.save_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", without, " ".join(command)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "litlogger" in done.stderr
    assert "LeafSpec" in done.stderr
