"""The model card names task, data and results, and its code runs."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from difftori_pl.cli import main
from difftori_pl.deployment.share import share
from difftori_pl.evaluation.action_errors import ActionErrors, write_errors
from tests.unit.deployment.share.common import IL


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
