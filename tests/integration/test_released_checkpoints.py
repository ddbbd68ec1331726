"""Checkpoints of every released version load, give the same actions, and can be resumed."""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from difftori_pl import load_policy
from difftori_pl.cli import main, run
from tests.checkpoints.write import FOLDER, SMALL_BC, actions

CHECKPOINTS = sorted(FOLDER.glob("*/*.ckpt"))


def test_there_is_a_checkpoint_of_each_kind() -> None:
    assert {path.stem for path in CHECKPOINTS} >= {"bc_rnn", "il", "rl"}


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_actions_are_unchanged(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = json.loads(path.with_suffix(".json").read_text())
    assert_close(actions(path), expected, rtol=1e-4, atol=1e-5)  # rounding differs between versions of torch
    main(["checkpoint", "show", str(path)])
    printed = capsys.readouterr().out
    assert f"difftori-pl {path.parent.name}" in printed
    assert "schema" in printed
    assert "0 not finite" in printed
    for key, spec in load_policy(path).obs_specs.items():
        assert f"reads {key} {spec}" in printed


@pytest.mark.parametrize("path", [path for path in CHECKPOINTS if path.stem == "bc_rnn"], ids=lambda p: p.parent.name)
def test_training_resumes(path: Path, quick: list[str]) -> None:
    options = [*quick, *SMALL_BC, f"--ckpt_path={path}", "--trainer.max_steps=4"]
    trainer = run(["fit", "--config=bc_rnn_square_low_dim.yaml", *options]).trainer
    assert trainer.global_step == 4


def test_a_checkpoint_describes_itself(low_dim_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    known = torch.load(low_dim_base, weights_only=True)["difftori"]
    assert known["task"] == "NutAssemblySquare"
    assert known["action_dim"] == 7
    assert known["observations"]["object"] == {"kind": "vector", "shape": (14,), "dtype": "float32"}
    assert known["data"]["file"] == "square.hdf5"
    assert len(known["data"]["sha256"]) == 64
    assert {"torch", "python", "lightning"} <= known["versions"].keys()
    main(["checkpoint", "show", str(low_dim_base)])
    printed = capsys.readouterr().out
    assert "task NutAssemblySquare, 7 numbers per action" in printed
    assert "reads object (14,) (vector, float32)" in printed
    assert "difftori_pl.BCRNNGMM" in printed
