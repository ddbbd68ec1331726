"""Download from the hub and upload to it, through doubles of its library."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from difftori_pl import load_policy
from difftori_pl.cli import main
from difftori_pl.deployment import hub
from difftori_pl.deployment.share import share
from difftori_pl.errors import CheckpointError, ExportError, MissingPackageError
from tests.unit.deployment.share.common import BC


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
