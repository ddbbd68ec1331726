"""Run a command in one of several processes and save the final state of each; used by `test_rl_ddp.py`."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from difftori_pl.callbacks import collect, rollout
from difftori_pl.cli import run
from difftori_pl.envs.local_pool import LocalPool
from difftori_pl.envs.pool import Step
from difftori_pl.trajopt import compilation
from tests.rl_runs import everything

SEEDS: list[int] = []
"""Seeds of the episodes that this process has run."""


class RecordingPool(LocalPool):
    """Records the seeds of its episodes in `SEEDS`."""

    def reset(self, seeds: Mapping[int, int], render: frozenset[int] = frozenset()) -> dict[int, Step]:
        SEEDS.extend(seeds.values())
        return super().reset(seeds, render)


if __name__ == "__main__":
    collect.EnvPool = RecordingPool  # type: ignore[assignment,misc,attr-defined]
    rollout.EnvPool = RecordingPool  # type: ignore[assignment,misc,attr-defined]
    compilation.BACKEND = "eager"  # compiling kernels and gradients would take minutes
    cli = run(sys.argv[2:])
    found: dict[str, Any] = {
        **everything(cli),
        "seeds": SEEDS,
        "n_updates": cli.trainer.global_step,
        "rollouts": {k: float(v) for k, v in cli.trainer.callback_metrics.items() if k.startswith("rollout/")},
    }
    torch.save(found, Path(sys.argv[1]) / f"rank{cli.trainer.global_rank}.pt")
