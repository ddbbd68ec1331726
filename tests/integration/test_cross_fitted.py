"""Cross-fitted proposals through the command line: fold policies, refinement, deployment and resumption."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from difftori_pl import load_policy
from difftori_pl.checkpoints.cross_fitted_policy import cross_fitted
from difftori_pl.cli import main, run
from difftori_pl.deployment.export import export
from difftori_pl.errors import CheckpointError
from difftori_pl.models.base_policies import CrossFitted
from tests.conftest import SMALL

Train = Callable[..., Path]


@pytest.fixture(scope="module")
def folds(train: Train) -> list[Path]:
    """Train a policy without each of two folds, of one demonstration each."""
    return [train("bc_rnn_square_low_dim.yaml", *SMALL, f"--data.fold={i}", "--data.n_folds=2") for i in (0, 1)]


def words(base: Path, folds: list[Path]) -> list[str]:
    return [
        "--model.base_policy=base_policy/cross_fitted.yaml",
        f"--model.base_policy.checkpoint={base}",
        f"--model.base_policy.checkpoints=[{','.join(map(str, folds))}]",
        "--model.proposal_noise=0",
    ]


def test_a_run_is_deployed_exported_and_resumed_without_the_files_of_its_policies(
    train: Train, low_dim_base: Path, folds: list[Path], quick: list[str], tmp_path: Path
) -> None:
    base, *others = (Path(shutil.copy(path, tmp_path / f"{i}.ckpt")) for i, path in enumerate((low_dim_base, *folds)))
    given = words(base, others[::-1])  # in any order
    last = train("il_square_low_dim.yaml", *given)
    for path in (base, *others):
        path.unlink()
    loaded = load_policy(last)
    policy = loaded.policy.base_policy  # type: ignore[attr-defined]
    assert isinstance(policy, CrossFitted)
    assert loaded.policy.describe() == "DiffTORIIL + BCRNNGMM"
    for part, path in zip((policy.policy, *policy.fold_policies), (low_dim_base, *folds), strict=True):
        weights = torch.load(path, weights_only=True)["state_dict"]
        assert all(torch.equal(value, weights[f"policy.{name}"]) for name, value in part.state_dict().items())
    left_out = [torch.load(path, weights_only=True)["difftori"]["left_out"] for path in folds]
    assert policy.fold_demos == [fold["demos"] for fold in left_out]
    torch.nn.init.constant_(next(policy.fold_policies.parameters()), torch.nan)  # not used for acting
    assert np.isfinite(loaded.act({key: np.zeros(spec.shape) for key, spec in loaded.obs_specs.items()})).all()
    assert export(last, tmp_path / "policy.pt2", n_runs=1).error <= 1e-5
    resumed = run(
        ["fit", "--config=il_square_low_dim.yaml", *quick, *given, "--trainer.max_steps=3", f"--ckpt_path={last}"]
    )
    assert resumed.trainer.global_step == 3


def test_a_run_on_other_demonstrations_is_refused(low_dim_base: Path, folds: list[Path], quick: list[str]) -> None:
    options = ["fit", "--config=il_square_low_dim.yaml", *quick, *words(low_dim_base, folds)]
    with pytest.raises(SystemExit, match=r"expected folds of the 3 training demonstrations, got 2 .* is in no fold"):
        main([*options, "--data.validation_fraction=0", "--trainer.max_steps=1"])


def changed(path: Path, folder: Path, **values: object) -> str:
    """Copy a checkpoint with other values in its description."""
    content = torch.load(path, weights_only=True)
    content["difftori"] |= values
    torch.save(content, folder / "changed.ckpt")
    return str(folder / "changed.ckpt")


def test_checkpoints_that_do_not_match_are_refused(low_dim_base: Path, folds: list[Path], tmp_path: Path) -> None:
    base, first, second = map(str, (low_dim_base, *folds))
    with pytest.raises(CheckpointError, match=r"trained on all training demonstrations in .* got one without fold 0"):
        cross_fitted(first, [first, second])
    with pytest.raises(CheckpointError, match=r"trained without a fold in .* got one trained on all"):
        cross_fitted(base, [first, base])
    for given, listed in (([first], "0 of 2"), ([first, first], "0 of 2, 0 of 2"), ([], "none")):
        with pytest.raises(CheckpointError, match=f"expected one checkpoint for each fold, .* got the folds {listed}:"):
            cross_fitted(base, given)
    other = {"file": "other.hdf5", "bytes": 1, "sha256": "other"}
    for name, value in (("data", other), ("observations", {}), ("action_dim", 6)):
        with pytest.raises(CheckpointError, match=rf"to be trained with the same {name}, got "):
            cross_fitted(base, [first, changed(folds[1], tmp_path, **{name: value})])
