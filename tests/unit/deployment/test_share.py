"""Shared policies: the same actions, a model card, and one message per fault; nothing in a folder is executed."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from difftori_pl import from_checkpoint, load_policy
from difftori_pl.checkpoints.named_classes import foreign_classes
from difftori_pl.checkpoints.reading import SCHEMA
from difftori_pl.cli import main
from difftori_pl.deployment import hub
from difftori_pl.deployment import share as sharing
from difftori_pl.deployment.share import share
from difftori_pl.errors import CheckpointError, ExportError, MissingPackageError
from difftori_pl.evaluation.action_errors import ActionErrors, write_errors
from tests.checkpoints.write import FOLDER

safetensors = pytest.importorskip("safetensors.torch")

CHECKPOINTS = sorted(FOLDER.glob("*/*.ckpt"))
IL = next(path for path in CHECKPOINTS if path.stem == "il")
BC = next(path for path in CHECKPOINTS if path.stem == "bc_rnn")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    share(BC, tmp_path / "policy")
    return tmp_path / "policy"


def actions(place: Path, n_steps: int = 4) -> np.ndarray:
    policy, random = load_policy(place), np.random.default_rng(0)
    torch.manual_seed(0)
    observations = [
        {key: random.normal(size=spec.shape) for key, spec in policy.obs_specs.items()} for _ in range(n_steps)
    ]
    return np.stack([policy.act(observation) for observation in observations])


def change(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def describe(folder: Path, *path: str, value: Any) -> None:
    """Set a value in the description of the model."""
    config = json.loads((folder / "config.json").read_text())
    owner = config["hyper_parameters"]
    for name in path[:-1]:
        owner = owner[name]
    owner[path[-1]] = value
    (folder / "config.json").write_text(json.dumps(config))


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
    weights = safetensors.load_file(tmp_path / "policy/model.safetensors")
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


def test_the_code_in_the_model_card_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    share(IL, tmp_path / "policy")
    code = (tmp_path / "policy/README.md").read_text().partition("```python\n")[2].partition("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["action"].shape == (7,)


def write_rollouts(
    folder: Path, step: int, policy: str, successes: list[bool], first_seed: int, **facts: object
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"task": "Square", "method": f"method of {policy}", "horizon": 1, **facts}
    (folder / f"rollouts_step{step}_{policy}.json").write_text(json.dumps(facts))
    episodes = [{"seed": first_seed + i, "success": success} for i, success in enumerate(successes)]
    lines = "".join(json.dumps(episode) + "\n" for episode in episodes)
    (folder / f"rollouts_step{step}_{policy}.jsonl").write_text(lines)


def test_the_model_card_names_task_data_and_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "runs/il/version_0"
    (run / "checkpoints").mkdir(parents=True)
    content = torch.load(IL, weights_only=True)
    step = content["global_step"]
    content["callbacks"] = {"Checkpoint{'monitor': 'rollout/policy/success_rate', 'mode': 'max'}": {}}
    torch.save(content, run / "checkpoints/best.ckpt")
    tested = {"stage": "test", "run": str(run), "checkpoint": "best.ckpt", "selected_on": [200_000, 4]}
    write_rollouts(run.with_name("version_1"), step, "policy", [True, True, False, True], 100_000, **tested)
    write_rollouts(run.with_name("version_1"), step, "base", [True, False, False, False], 100_000, **tested)
    # The results of other checkpoints, of other runs and of training do not count.
    write_rollouts(run.with_name("version_2"), step + 1, "policy", [False], 100_000, **tested)
    write_rollouts(run.with_name("version_3"), step, "policy", [False], 0, **tested | {"checkpoint": "last.ckpt"})
    write_rollouts(run.with_name("version_4"), step, "policy", [False], 0, **tested | {"run": "/runs/other/version_0"})
    write_rollouts(run, step, "policy", [False, False], 200_000, stage="fit")
    main(["share", f"--ckpt={tmp_path / 'runs/il'}", f"--output={tmp_path / 'policy'}"])
    assert "policy: 3/4 = 75 % (30 to 95)" in capsys.readouterr().out
    card = (tmp_path / "policy/README.md").read_text()
    assert "# DiffTORIIL on NutAssemblySquare" in card
    data = content["difftori"]["data"]
    assert f"`{data['file']}`, {data['bytes']:,} bytes, sha256 `{data['sha256']}`" in card
    assert "| method of policy | 3/4 = 75 % (30 to 95) | 4 | seeds 100000 to 100003, test |" in card
    assert "| method of base (base) | 1/4 = 25 % (5 to 70) | 4 | seeds 100000 to 100003, test |" in card
    assert "†" not in card


def test_the_errors_on_held_out_episodes_stand_next_to_the_results(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "runs/il/version_0"
    (run / "checkpoints").mkdir(parents=True)
    content = torch.load(IL, weights_only=True)
    content["difftori"]["validation"] = {"step": 40, "action_error": 0.012, "base_action_error": 0.034}
    content["interface"]["action_scaling"] = {"method": "min_max", "center": [0.0] * 7, "half_range": [90.0] * 7}
    torch.save(content, run / "checkpoints/last.ckpt")
    main(["share", f"--ckpt={run / 'checkpoints/last.ckpt'}", f"--output={tmp_path / 'before'}"])
    assert "no results of this checkpoint found: run `lightning test` first" in capsys.readouterr().out
    validation = (
        "Validation after 40 updates: squared error of an action, summed over its components and averaged over "
        "held-out steps (in the scaled units of training): policy 0.012, base policy 0.034."
    )
    card = (tmp_path / "before/README.md").read_text()
    assert validation in card
    assert "Not evaluated in a simulator: no rollouts of this checkpoint" in card
    tested: dict[str, Any] = {"stage": "test", "run": str(run), "checkpoint": "last.ckpt"}
    methods = {"policy": "DiffTORIIL + BC", "base": "BC"}
    found = ActionErrors(methods, {"policy": [1.0, 3.0, 2.0], "base": [2.0, 5.0, 2.0]}, held_out=True)
    step = content["global_step"]
    write_errors(found, run.with_name("version_1"), step, tested)
    # The errors of other checkpoints and other runs do not count.
    others = ActionErrors(methods, {"policy": [9.0], "base": [9.0]}, held_out=True)
    write_errors(others, run.with_name("version_2"), step + 1, tested)
    write_errors(others, run.with_name("version_3"), step, tested | {"checkpoint": "best.ckpt"})
    write_errors(others, run.with_name("version_4"), step, tested | {"run": "/runs/other/version_0"})
    main(["share", f"--ckpt={run / 'checkpoints/last.ckpt'}", f"--output={tmp_path / 'after'}"])
    assert "policy: error 2 (1 to 3), in the units of the data" in capsys.readouterr().out
    card = (tmp_path / "after/README.md").read_text()
    assert "| DiffTORIIL + BC | 2 (1 to 3) | 3 |" in card
    assert "| BC (base) | 3 (2 to 5) | 3 |" in card
    assert "| difference to the base | -1 (-2 to 0) | 3 |" in card
    assert "in the units of the data, on recorded observations of held-out episodes." in card
    assert validation in card
    assert "Not evaluated in a simulator." in card


def test_results_on_the_states_of_the_selection_are_marked(tmp_path: Path) -> None:
    run = tmp_path / "runs/il/version_0"
    (run / "checkpoints").mkdir(parents=True)
    content = torch.load(IL, weights_only=True)
    content["callbacks"] = {"Checkpoint{'monitor': 'rollout/policy/success_rate', 'mode': 'max'}": {}}
    torch.save(content, run / "checkpoints/best.ckpt")
    write_rollouts(run, 0, "base", [False, True], 200_000, stage="fit")
    write_rollouts(run, content["global_step"], "policy", [True, True], 200_000, stage="fit")
    share(run / "checkpoints/best.ckpt", tmp_path / "policy")
    card = (tmp_path / "policy/README.md").read_text()
    assert "| method of policy † | 2/2 = 100 %" in card
    assert "| method of base (base) | 1/2 = 50 %" in card
    assert "† The checkpoint was selected on initial states of this evaluation: the figure is too high." in card


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


def test_a_missing_weights_file(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"expected config\.json and model\.safetensors in .*, got no model\.saf"):
        load_policy(folder)


def test_a_missing_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"got no config\.json"):
        load_policy(folder)


def test_truncated_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"bytes in .*model\.safetensors, got 1000: the file is incomplete"):
        load_policy(folder)


def test_a_changed_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"the check sum of .*model\.safetensors differs"):
        load_policy(folder)


def test_weights_in_another_format(folder: Path) -> None:
    import hashlib

    data = b"x" * 100
    (folder / "model.safetensors").write_bytes(data)
    change(folder, weights={"bytes": 100, "sha256": hashlib.sha256(data).hexdigest()})
    with pytest.raises(CheckpointError, match=r"cannot be read as safetensors"):
        load_policy(folder)


def test_an_unknown_schema(folder: Path) -> None:
    change(folder, difftori={"schema": SCHEMA + 1, "package": "9.0"})
    with pytest.raises(CheckpointError, match=rf"schema {SCHEMA} or lower, got schema {SCHEMA + 1} in .*update .*9\.0"):
        load_policy(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"interface": {}}', "[" * 100_000])
def test_a_damaged_configuration(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"config\.json is no configuration of a shared policy"):
        load_policy(folder)


def test_weights_of_another_model(folder: Path) -> None:
    describe(folder, "policy", "init_args", "hidden_dim", value=9)
    with pytest.raises(CheckpointError, match=r"expected policy\..* with shape .* in the checkpoint, got"):
        load_policy(folder)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("policy", "init_args", "hidden_dim"), "wide", "wide"),
        (("policy", "init_args", "n_modes"), -1, ""),
        (("policy", "init_args", "colour"), "red", "colour"),
        (("_class_path",), {}, ""),
    ],
)
def test_a_model_that_cannot_be_built(folder: Path, path: tuple[str, ...], value: Any, reason: str) -> None:
    describe(folder, *path, value=value)
    with pytest.raises(CheckpointError, match=rf"cannot build the model that .*{reason}") as caught:
        load_policy(folder)
    assert "\n" not in str(caught.value)


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


def test_a_missing_library_is_named_in_one_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(MissingPackageError, match=r"someone/pick-and-place does not exist here, .*difftori-pl\[hub\]"):
        load_policy("someone/pick-and-place")
    with pytest.raises(MissingPackageError, match=r"uploading .* needs huggingface_hub: pip install"):
        hub.check_name("someone/pick-and-place")
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(MissingPackageError, match=r"need safetensors: pip install 'difftori-pl\[hub\]'"):
        load_policy(folder)


def double(**functions: Callable[..., Any]) -> SimpleNamespace:
    return SimpleNamespace(**functions)


def test_a_policy_is_downloaded_from_the_hub(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, list[str]]] = []

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        calls.append((name, allow_patterns))
        return str(folder)

    monkeypatch.setitem(sys.modules, "huggingface_hub", double(snapshot_download=snapshot_download))
    observation = {key: np.ones(spec.shape) for key, spec in load_policy(BC).obs_specs.items()}
    torch.manual_seed(0)
    expected = load_policy(BC).act(observation)
    torch.manual_seed(0)
    np.testing.assert_array_equal(load_policy("someone/pick-and-place").act(observation), expected)
    assert calls == [("someone/pick-and-place", ["config.json", "model.safetensors", "README.md"])]


def test_paths_are_not_looked_up_on_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    for place in ("runs/il_square", "some/last.ckpt", "./a/b", "/a/b", "a"):
        with pytest.raises(CheckpointError, match="there is no checkpoint"):
            load_policy(place)


def test_what_the_hub_does_not_deliver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        if name == "someone/nothing":
            return str(tmp_path)
        raise RuntimeError("404 Client Error\nmore lines")

    monkeypatch.setitem(sys.modules, "huggingface_hub", double(snapshot_download=snapshot_download))
    with pytest.raises(CheckpointError, match=r"someone/policy does not exist here, .* \(404 Client Error\): check"):
        load_policy("someone/policy")
    (tmp_path / "best.ckpt").write_bytes(BC.read_bytes())  # a checkpoint may name any class
    with pytest.raises(CheckpointError, match="expected a policy that `difftori share` wrote in someone/nothing"):
        load_policy("someone/nothing")


def test_a_policy_is_uploaded_to_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: dict[str, Any] = {}

    class Api:
        def create_repo(self, name: str, private: bool, exist_ok: bool) -> None:
            calls["create"] = (name, private, exist_ok)

        def upload_folder(self, repo_id: str, folder_path: Path, allow_patterns: list[str], commit_message: str) -> str:
            calls["upload"] = (repo_id, sorted(path.name for path in Path(folder_path).iterdir()))
            return f"https://hub/{repo_id}"

    monkeypatch.setitem(sys.modules, "huggingface_hub", double(HfApi=Api))
    arguments = ["share", f"--ckpt={BC}", f"--output={tmp_path / 'policy'}", "--push=someone/pick", "--private=true"]
    main(arguments)
    assert calls["create"] == ("someone/pick", True, True)
    assert calls["upload"] == ("someone/pick", ["README.md", "config.json", "model.safetensors"])
    assert "uploaded to https://hub/someone/pick" in capsys.readouterr().out
    assert 'load_policy("someone/pick")' in (tmp_path / "policy/README.md").read_text()


def test_a_failed_upload_leaves_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Api:
        def create_repo(self, *_: object, **__: object) -> None:
            raise RuntimeError("401 Client Error")

    monkeypatch.setitem(sys.modules, "huggingface_hub", double(HfApi=Api))
    share(BC, tmp_path / "policy")
    with pytest.raises(ExportError, match=r"written, but could not be uploaded to someone/pick \(401 Client Error\)"):
        hub.upload(tmp_path / "policy", "someone/pick", private=False)
    with pytest.raises(ExportError, match=r"expected a name on the hub such as user/name, got 'pick'"):
        hub.check_name("pick")


def test_the_calls_fit_the_signatures_of_the_library() -> None:
    import inspect

    library = pytest.importorskip("huggingface_hub")
    inspect.signature(library.snapshot_download).bind("someone/pick", allow_patterns=["README.md"])
    inspect.signature(library.HfApi.create_repo).bind(None, "someone/pick", private=True, exist_ok=True)
    inspect.signature(library.HfApi.upload_folder).bind(
        None, repo_id="someone/pick", folder_path="policy", allow_patterns=["README.md"], commit_message="Add policy"
    )


def test_help_imports_neither_torch_nor_the_hub() -> None:
    code = """
import sys
from difftori_pl.commands import COMMANDS
COMMANDS["share"].load("share")
assert not {"torch", "lightning", "safetensors", "huggingface_hub"} & sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True)
