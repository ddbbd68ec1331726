"""Each fault of a shared folder has one message."""

from pathlib import Path
from typing import Any

import pytest

from difftori_pl import load_policy
from difftori_pl.checkpoints.reading import SCHEMA
from difftori_pl.errors import CheckpointError
from tests.unit.deployment.share.common import change, describe


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
