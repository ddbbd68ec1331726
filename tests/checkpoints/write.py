"""Write small checkpoints of the current version, which all later versions must be able to read.

Run `python -m tests.checkpoints.write` once per release, and commit the files that it writes: `<version>/<name>.ckpt`,
and the actions of its policy in `<name>.json`. Never change files of earlier versions.
"""

import json
import shutil
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from datamodules import ObservationSpec
from difftori_pl import load_policy
from difftori_pl.cli import run
from difftori_pl.version import __version__
from tests.conftest import SQUARE_OBS
from tests.data import write_robomimic

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]
N_STEPS = 3

SMALL_BC = ["--model.policy.hidden_dim=8"]
SMALL_IL = [
    "--model.encoder.hidden_dim=8",
    "--model.posterior.hidden_dims=[8]",
    "--model.score=Score",
    "--model.score.hidden_dims=[8]",
    "--model.trajopt.solver.max_steps=5",
    "--model.prior_temperature=0",
    "--trainer.callbacks+=ExponentialMovingAverage",
]


def observation(specs: dict[str, ObservationSpec], step: int) -> dict[str, np.ndarray]:
    """Return an observation that depends only on the step."""
    return {key: np.sin(np.arange(np.prod(spec.shape)) + step).reshape(spec.shape) for key, spec in specs.items()}


def actions(path: Path) -> list[list[float]]:
    """Return the actions of a checkpoint's policy in the first steps of an episode."""
    policy = load_policy(path)
    torch.manual_seed(0)  # some policies sample from mixtures
    return [policy.act(observation(policy.obs_specs, step)).tolist() for step in range(N_STEPS)]


def write(folder: Path) -> None:
    """Train each kind of module for two updates, and write the checkpoints to `folder`."""
    folder.mkdir()
    with TemporaryDirectory() as name:
        runs = Path(name)
        data = write_robomimic(runs / "square.hdf5", [18, 20, 19], SQUARE_OBS)
        quick = [f"--data.path={data}", "--data.batch_size=3", "--data.n_workers=0", "--trainer.max_steps=2"]
        quick += [
            "--trainer.accelerator=cpu",
            f"--trainer.logger.save_dir={runs}",
            "--trainer.enable_progress_bar=false",
        ]
        bc = run(["fit", "--config=bc_rnn_square_low_dim.yaml", *quick, *SMALL_BC])
        base = _keep(bc, folder / "bc_rnn.ckpt")
        il = ["--config=il_square_low_dim.yaml", *quick, *SMALL_IL, f"--model.base_policy.checkpoint={base}"]
        _keep(run(["fit", *il]), folder / "il.ckpt")
        rl = [f"--config={ROOT / 'tests' / 'rl.yaml'}", f"--trainer.logger.save_dir={runs}", "--trainer.max_steps=2"]
        _keep(run(["fit", *rl]), folder / "rl.ckpt")


def _keep(cli: object, path: Path) -> Path:
    shutil.copyfile(cli.trainer.checkpoint_callback.last_model_path, path)  # type: ignore[attr-defined]
    path.with_suffix(".json").write_text(json.dumps(actions(path)) + "\n")
    return path


if __name__ == "__main__":
    write(FOLDER / __version__)
    sys.stdout.write("".join(f"{path}\n" for path in sorted((FOLDER / __version__).iterdir())))
