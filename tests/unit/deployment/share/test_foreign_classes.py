"""Nothing in a shared folder is executed: foreign classes are refused unless they are allowed by name."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from difftori_pl import from_checkpoint, load_policy
from difftori_pl.checkpoints.named_classes import foreign_classes
from difftori_pl.deployment.share import share
from difftori_pl.errors import CheckpointError
from tests.unit.deployment.share.common import BC, describe

FOREIGN = """
import pathlib
pathlib.Path({marker!r}).touch()
from difftori_pl import StateEncoder

class Own(StateEncoder):
    pass
"""


@pytest.fixture
def foreign(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name an encoder of a module in the current folder, which leaves a file when it is imported."""
    (folder / "not_ours.py").write_text(FOREIGN.format(marker=str(folder / "executed")))
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "not_ours", raising=False)
    return folder


PLACE = ("policy", "init_args", "encoder")


def test_a_foreign_class_is_refused_before_it_is_imported_unless_it_is_allowed(foreign: Path) -> None:
    describe(foreign, *PLACE, "class_path", value="not_ours.Own")
    message = r"expected only classes of difftori_pl in .*, got not_ours\.Own: .*allow=\['not_ours\.Own'\]"
    with pytest.raises(CheckpointError, match=message):
        load_policy(foreign)
    with pytest.raises(CheckpointError, match=message):
        from_checkpoint(str(foreign))
    assert not (foreign / "executed").exists()
    with pytest.raises(CheckpointError, match=r"allow=\['not_ours\.Other', 'not_ours\.Own'\]"):
        load_policy(foreign, allow=["not_ours.Other"])
    np.testing.assert_array_equal(
        load_policy(foreign, allow=["not_ours.Own"])
        .act({key: np.zeros(spec.shape) for key, spec in load_policy(BC).obs_specs.items()})
        .shape,
        (7,),
    )
    assert (foreign / "executed").exists()


HIDDEN: list[Any] = [
    "not_ours.Own",
    "{class_path: not_ours.Own}",
    "class_path: not_ours.Own",
    "class_path:\n  not_ours.Own",
    {"class_path": "not_ours.Own"},
    [{"class_path": "not_ours.Own"}],
    {"class_path": "StateEncoder", "init_args": {"hidden_dims": "not_ours.Own"}},
    {"class_path": "difftori_pl.module.torch.hub.load"},
    {"class_path": "difftori_pl.checkpoints.shared_folder._safetensors"},
    {"class_path": "difftori_pl.from_checkpoint", "init_args": {"checkpoint": "/etc/passwd"}},
    {"class_path": "torch.optim.sys.exit"},
    {"class_path": "os.system"},
]


@pytest.mark.parametrize("value", HIDDEN, ids=str)
def test_no_way_of_naming_foreign_code_leads_to_an_import(foreign: Path, value: Any) -> None:
    describe(foreign, *PLACE, value=value)
    with pytest.raises(CheckpointError, match=r"expected (only classes of difftori_pl|names and numbers)"):
        load_policy(foreign)
    assert not (foreign / "executed").exists()


def test_another_way_to_build_the_module_is_ignored(foreign: Path) -> None:
    describe(foreign, "_instantiator", value="not_ours.Own")
    with pytest.raises(CheckpointError, match="not_ours"):
        load_policy(foreign)


def test_a_checkpoint_in_the_folder_is_not_read(folder: Path) -> None:
    (folder / "best.ckpt").write_bytes(b"pickled code")
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"got no config\.json"):
        load_policy(folder)


def test_classes_of_the_package_and_optimisers_are_ours() -> None:
    names = ["difftori_pl.DiffTORIIL", "difftori_pl.trajopt.solvers.GaussNewton", "difftori_pl.frozen_critic"]
    names += ["torch.optim.Adam", "torch.optim.lr_scheduler.CosineAnnealingLR", "StateEncoder", "object", "1.5"]
    assert foreign_classes({"names": names, "observation.state": 3}) == []
    assert foreign_classes(["torch.nn.Linear", "difftori_pl.NoSuchClass"]) == [
        "difftori_pl.NoSuchClass",
        "torch.nn.Linear",
    ]


def test_a_foreign_class_in_a_checkpoint_is_named_in_the_card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "not_ours.py").write_text(FOREIGN.format(marker=str(tmp_path / "executed")))
    monkeypatch.syspath_prepend(str(tmp_path))
    content = torch.load(BC, weights_only=True)
    content["hyper_parameters"]["policy"]["init_args"]["encoder"]["class_path"] = "not_ours.Own"
    torch.save(content, tmp_path / "last.ckpt")
    assert share(tmp_path / "last.ckpt", tmp_path / "policy").foreign == ["not_ours.Own"]
    assert "load_policy(\"policy\", allow=['not_ours.Own'])" in (tmp_path / "policy/README.md").read_text()
