import csv
import json
import os
from pathlib import Path
from typing import Any

import pytest

from difftori_pl.cli import main
from difftori_pl.errors import ConfigurationError
from difftori_pl.evaluation.tables import make_table


def write_run(
    folder: Path,
    task: str,
    method: str,
    outcomes: str,
    name: str = "policy",
    step: int = 10,
    horizon: int = 1,
    first_seed: int = 0,
    **known: Any,
) -> None:
    """Write the files of an evaluated run; an `x` in `outcomes` is a success."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = f"rollouts_step{step}_{name}"
    (folder / f"{stem}.json").write_text(json.dumps({"task": task, "method": method, "horizon": horizon} | known))
    lines = [
        json.dumps({"seed": seed, "success": mark == "x", "max_reward": 1.0 if mark == "x" else 0.5})
        for seed, mark in enumerate(outcomes, first_seed)
    ]
    (folder / f"{stem}.jsonl").write_text("\n".join(lines))


def cells(name: str, runs: Path) -> dict[tuple[str, str], str]:
    return {(cell.label, cell.task): str(cell) for cell in make_table(name, runs).cells}


def test_cells_show_our_and_the_papers_results(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "NutAssemblySquare", "DiffTORIIL + BCRNNGMM", "x" * 39 + "." * 11)
    write_run(tmp_path / "a", "NutAssemblySquare", "BCRNNGMM", "xx..", name="base")
    write_run(tmp_path / "b", "NutAssemblySquare", "Residual + BCRNNGMM", "x.")
    write_run(tmp_path / "b", "NutAssemblySquare", "BCRNNGMM", "xx..", name="base")
    write_run(tmp_path / "c", "PushT", "IBC", "x...")
    found = cells("robomimic", tmp_path)
    assert found["DiffTORI + BC-RNN", "NutAssemblySquare"] == "39/50 = 78 % (65 to 87) / 0.90 ± 0.02"
    assert found["BC-RNN", "NutAssemblySquare"].startswith("2/4 = 50 %"), "the base counts once"
    assert found["IBC", "PushT"] == "1/4 = 25 % (5 to 70), score 0.62 / 0.11 ± 0.01"
    assert found["Diffusion", "ToolHang"] == "– / 0.90 ± 0.00"


def test_runs_are_pooled_and_the_latest_step_counts(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_run(tmp_path / str(seed), "ToolHang", "BCRNNGMM", "....", step=99)
        write_run(tmp_path / str(seed), "ToolHang", "BCRNNGMM", "xx..", step=100)
    write_run(tmp_path / "other", "ToolHang", "BCRNNGMM", "....", name="base")
    assert cells("robomimic", tmp_path)["BC-RNN", "ToolHang"].startswith("4/8 = 50 % (22 to 78), 2 runs")


def test_evaluations_of_one_training_run_count_as_one_run(tmp_path: Path) -> None:
    for version, outcomes, step, stage in ((0, "....", 300, "fit"), (1, "x...", 0, "test"), (2, "xx..", 0, "test")):
        folder = tmp_path / f"version_{version}"
        write_run(folder, "ToolHang", "BCRNNGMM", outcomes, step=step, run=str(tmp_path / "version_0"), stage=stage)
        os.utime(folder / f"rollouts_step{step}_policy.json", (version, version))
    assert cells("robomimic", tmp_path)["BC-RNN", "ToolHang"].startswith("2/4 = 50 % (15 to 85) /")
    run = str(tmp_path / "version_0")
    write_run(tmp_path / "more", "ToolHang", "BCRNNGMM", "xx", step=0, first_seed=4, run=run, stage="test")
    assert cells("robomimic", tmp_path)["BC-RNN", "ToolHang"].startswith("4/6 = 67 %"), "from other initial states"


def test_horizons_and_initialisations(tmp_path: Path) -> None:
    write_run(tmp_path / "a", "PushT", "DiffTORIIL + BCRNNGMM", "xxxx", horizon=3)
    write_run(tmp_path / "b", "PushT", "DiffTORIIL + Zeros", "....")
    horizons, starts = cells("ablation-horizon", tmp_path), cells("init", tmp_path)
    assert horizons["H = 3", "PushT"].startswith("4/4")
    assert horizons["H = 5", "PushT"].startswith("–")
    assert horizons["H = 1", "PushT"].startswith("–")  # this row requires a base policy
    assert starts["DiffTORI + zero init.", "PushT"].startswith("0/4")


def test_position_controllers_count_by_kind_of_demonstrations(tmp_path: Path) -> None:
    known = {"controller": "position", "data": "/home/me/datasets/square/mh/low_dim_abs.hdf5"}
    write_run(tmp_path / "mh", "NutAssemblySquare", "DiffusionPolicy", "xxx.", **known)
    write_run(
        tmp_path / "delta", "NutAssemblySquare", "DiffusionPolicy", "....", data="datasets/square/mh/low_dim.hdf5"
    )
    found = cells("controllers", tmp_path)
    assert found["Diffusion", "NutAssemblySquare (mh)"] == "3/4 = 75 % (30 to 95) / 0.97 ± 0.02"
    assert found["Diffusion", "NutAssemblySquare (ph)"] == "– / 0.98 ± 0.01"
    assert found["DiffTORI + Diffusion", "ToolHang (ph)"] == "– / 0.96 ± 0.01"
    assert len(found) == 10
    assert cells("robomimic", tmp_path)["Diffusion", "NutAssemblySquare"].startswith("0/4"), "displacements only"


def test_the_command_prints_and_writes_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    write_run(tmp_path / "a", "PickCube-v0", "BC", "x.")
    main(["table", "maniskill", f"--runs={tmp_path}", f"--csv={tmp_path}/t.csv", f"--plot={tmp_path}/t.png"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("| ours / paper | PickCube-v0 | Fill-v0 |")
    assert printed[2].startswith("| BC | 1/2 = 50 % (9 to 91) / 0.19 ± 0.03 | – / 0.72 ± 0.04 |")
    rows = list(csv.DictReader((tmp_path / "t.csv").read_text().splitlines()))
    assert (rows[0]["n_episodes"], rows[0]["published_rate"], rows[1]["rate"]) == ("2", "0.19", "")
    assert (tmp_path / "t.png").read_bytes()[:4] == b"\x89PNG"


def test_wrong_names_and_empty_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"one of the tables robomimic, init, .* got 'atari'"):
        make_table("atari", tmp_path)
    with pytest.raises(ConfigurationError, match="no evaluated run in"):
        make_table("robomimic", tmp_path)


def test_an_evaluation_in_which_every_episode_crashed_is_ignored(tmp_path: Path) -> None:
    write_run(tmp_path, "PushT", "IBC", "")
    episode = {"seed": 0, "success": False, "max_reward": 0.0, "crash": "gone"}
    (tmp_path / "rollouts_step10_policy.jsonl").write_text(json.dumps(episode))
    with pytest.raises(ConfigurationError, match="no evaluated run in"):
        make_table("robomimic", tmp_path)


def test_the_selected_checkpoint_counts_and_the_last_one_is_shown(tmp_path: Path) -> None:
    run, method = str(tmp_path / "version_0"), "DiffTORIIL + BCRNNGMM"
    known = {"run": run, "stage": "test", "selected_on": [200, 4]}
    write_run(tmp_path / "best", "ToolHang", method, "xxx.", step=50, **known, checkpoint="best.ckpt")
    write_run(tmp_path / "last", "ToolHang", method, "x...", step=90, **known, checkpoint="last.ckpt")
    write_run(tmp_path / "other", "ToolHang", method, "....", run="other", stage="test", checkpoint="last.ckpt")
    found = cells("robomimic", tmp_path)["DiffTORI + BC-RNN", "ToolHang"]
    assert found.startswith("3/8 = 38 % (14 to 69), 2 runs, last 1/4 = 25 % (5 to 70) /")
    assert "selected by rollouts" in make_table("robomimic", tmp_path).markdown()
    assert "†" not in make_table("robomimic", tmp_path).markdown()


def test_a_selection_on_states_of_the_test_is_marked(tmp_path: Path) -> None:
    known = {"run": "run", "stage": "test", "checkpoint": "best.ckpt", "selected_on": [3, 4]}
    write_run(tmp_path / "a", "ToolHang", "DiffTORIIL + BCRNNGMM", "xxx.", **known)
    assert "3/4 = 75 % (30 to 95)† /" in cells("robomimic", tmp_path)["DiffTORI + BC-RNN", "ToolHang"]
    assert "selected on initial states of this evaluation" in make_table("robomimic", tmp_path).markdown()
