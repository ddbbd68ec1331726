"""A policy is refused by data and environments of another generation of robosuite; no simulator is needed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import pytest

from difftori_pl.cli import main, run
from tests.conftest import SMALL

CONFIG = "bc_rnn_square_low_dim.yaml"


@pytest.fixture(scope="module")
def files(square: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Copies of a file, recorded with different versions; "old" has no version but the controller of 1.4."""
    folder = tmp_path_factory.mktemp("versions")
    found = {}
    for name in ("1.4.1", "1.5.1", "old"):
        found[name] = Path(shutil.copy(square, folder / f"{name}.hdf5"))
        with h5py.File(found[name], "a") as file:
            env_args = json.loads(file["data"].attrs["env_args"])
            if name == "old":
                env_args["env_kwargs"]["controller_configs"] = {"type": "OSC_POSE"}
            else:
                env_args["env_version"] = name
            file["data"].attrs["env_args"] = json.dumps(env_args)
    return found


def _install(monkeypatch: pytest.MonkeyPatch, generation: str) -> None:
    monkeypatch.setattr("difftori_pl.envs.robosuite.installed_interface", lambda: {"robosuite": generation})


def _message(arguments: list[str]) -> str:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert isinstance(end.value.code, str)
    assert "\n" not in end.value.code
    return end.value.code


@pytest.mark.parametrize(
    ("recorded", "generation", "installed"),
    [("1.4.1", "1.4", "1.5"), ("old", "1.4", "1.5"), ("1.5.1", "1.5", "1.4")],
)
def test_training_with_rollouts_in_another_generation_is_refused(
    files: dict[str, Path],
    quick: list[str],
    monkeypatch: pytest.MonkeyPatch,
    recorded: str,
    generation: str,
    installed: str,
) -> None:
    _install(monkeypatch, installed)
    said = _message(["fit", f"--config={CONFIG}", *quick, *SMALL, f"--data.path={files[recorded]}"])
    assert f"the policy was trained with robosuite '{generation}', but the environment has '{installed}'" in said


def test_a_checkpoint_is_refused_by_data_and_environments_of_another_generation(
    files: dict[str, Path], quick: list[str], train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "1.4")
    checkpoint = train(CONFIG, *SMALL, f"--data.path={files['old']}")
    test = ["test", f"--config={CONFIG}", *quick, f"--ckpt_path={checkpoint}"]
    said = _message([*test, f"--data.path={files['1.5.1']}"])
    assert "the policy was trained with robosuite '1.4', but the data has '1.5'" in said
    _install(monkeypatch, "1.5")
    said = _message([*test, f"--data.path={files['old']}"])
    assert "the policy was trained with robosuite '1.4', but the environment has '1.5'" in said


def test_a_base_policy_of_another_generation_is_refused(
    files: dict[str, Path], quick: list[str], train: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "1.4")
    base = train(CONFIG, *SMALL, f"--data.path={files['1.4.1']}")
    _install(monkeypatch, "1.5")
    options = [f"--model.base_policy.checkpoint={base}", f"--data.path={files['1.5.1']}", "--trainer.fast_dev_run=1"]
    said = _message(["fit", "--config=il_square_low_dim.yaml", *quick, *options])
    assert "base_policy was trained with robosuite '1.4', but the data has '1.5'" in said


def test_patches_of_one_generation_are_accepted(
    files: dict[str, Path], quick: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(monkeypatch, "1.5")
    options = [*SMALL, f"--data.path={files['1.5.1']}", "--trainer.fast_dev_run=1"]
    assert run(["fit", f"--config={CONFIG}", *quick, *options]).trainer.global_step == 1
