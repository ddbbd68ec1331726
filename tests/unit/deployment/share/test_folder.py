"""A shared policy acts as its checkpoint, and its folder appears only when it is complete."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from difftori_pl import from_checkpoint
from difftori_pl.deployment import share as sharing
from difftori_pl.deployment.share import share
from difftori_pl.errors import ExportError
from tests.unit.deployment.share.common import BC, CHECKPOINTS, actions


@pytest.mark.parametrize("checkpoint", CHECKPOINTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_shared_policy_acts_as_its_checkpoint_to_the_last_bit(checkpoint: Path, tmp_path: Path) -> None:
    written = share(checkpoint, tmp_path / "policy")
    np.testing.assert_array_equal(actions(tmp_path / "policy"), actions(checkpoint))
    assert sorted(path.name for path in (tmp_path / "policy").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
    ]
    content = torch.load(checkpoint, weights_only=True)
    weights = pytest.importorskip("safetensors.torch").load_file(tmp_path / "policy/model.safetensors")
    assert weights.keys() == content["state_dict"].keys()
    assert written.n_weights == sum(value.numel() for value in weights.values())
    assert written.foreign == []


def test_the_units_of_the_data_are_kept(tmp_path: Path) -> None:
    content = torch.load(BC, weights_only=True)
    center = [0.1 * number for number in range(7)]
    content["interface"] = {
        "obs/object": "observation.state",
        "action_scaling": {"method": "min_max", "center": center, "half_range": [90.0] * 7},
    }
    torch.save(content, tmp_path / "last.ckpt")
    share(tmp_path / "last.ckpt", tmp_path / "policy")
    ours = actions(tmp_path / "policy")
    np.testing.assert_array_equal(ours, actions(tmp_path / "last.ckpt"))
    np.testing.assert_allclose(ours, np.float32(center) + 90.0 * actions(BC), rtol=1e-5)
    card = (tmp_path / "policy/README.md").read_text()
    assert '"observation.state": np.zeros((14,), np.float32)' in card
    assert "in the units of the training data" in card


def test_the_folder_of_a_run_is_accepted_and_a_shared_policy_serves_as_base_policy(tmp_path: Path) -> None:
    place = tmp_path / "runs/bc/version_0/checkpoints"
    place.mkdir(parents=True)
    (place / "best.ckpt").write_bytes(BC.read_bytes())
    share(tmp_path / "runs/bc", tmp_path / "policy")
    ours, theirs = from_checkpoint(str(tmp_path / "policy")), from_checkpoint(str(BC))
    for value, expected in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(value, expected)


def test_the_folder_appears_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(sharing, "model_card", interrupted)
    with pytest.raises(KeyboardInterrupt):
        share(BC, tmp_path / "policy")
    assert list(tmp_path.iterdir()) == []


def test_the_folder_has_the_usual_permissions(folder: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o777 & ~mask


def test_an_output_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy/notes.txt").write_text("mine")
    with pytest.raises(ExportError, match=r"expected a new or empty folder, got .*policy, which exists"):
        share(BC, tmp_path / "policy")
    assert (tmp_path / "policy/notes.txt").read_text() == "mine"
    (tmp_path / "policy/notes.txt").unlink()
    share(BC, tmp_path / "policy")


def test_help_imports_neither_torch_nor_the_hub() -> None:
    code = """
import sys
from difftori_pl.commands import COMMANDS
COMMANDS["share"].load("share")
assert not {"torch", "lightning", "safetensors", "huggingface_hub"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
