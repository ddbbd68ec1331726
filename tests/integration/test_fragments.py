"""A configuration fragment has the same effect regardless of the fragment that it replaces.

When the class of a part changes, jsonargparse keeps settings that the new class has under the same name. A fragment
therefore sets every value that other fragments of its kind set.
"""

from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonargparse import ArgumentParser, Namespace

import difftori_pl.public  # noqa: F401  jsonargparse resolves class names without a path among imported classes
from difftori_pl.cli import SHIPPED_CONFIGS, run
from difftori_pl.models.action_samplers import ActionSampler
from difftori_pl.reinforcement.planner import Planner
from difftori_pl.trajopt.backward import BackwardMode
from difftori_pl.trajopt.solvers import Solver

KINDS = {"solver": Solver, "backward_mode": BackwardMode, "sampler": ActionSampler, "planner": Planner}


def pairs() -> list[tuple[str, Path, Path]]:
    return [
        (kind, *pair) for kind in KINDS for pair in permutations(sorted((SHIPPED_CONFIGS / kind).glob("*.yaml")), 2)
    ]


@pytest.mark.parametrize(("kind", "first", "second"), pairs(), ids=lambda value: getattr(value, "stem", value))
def test_no_setting_of_the_replaced_fragment_remains(kind: str, first: Path, second: Path) -> None:
    parser = ArgumentParser(parser_mode="omegaconf+")
    parser.add_argument("--part", type=KINDS[kind], sub_configs=True)
    alone, after = (parser.parse_args([f"--part={one}" for one in given]) for given in ([second], [first, second]))
    assert after.part.class_path == alone.part.class_path
    assert settings(after.part) == settings(alone.part)


def settings(part: Namespace) -> dict[str, Any]:
    found: dict[str, Any] = part.as_dict().get("init_args", {})
    return found


@pytest.mark.parametrize(
    "task", ["rl_cartpole_swingup_state.yaml", "rl_reacher_easy_state.yaml", "rl_walker_walk.yaml"]
)
def test_td_mpc_plans_with_its_own_constants(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["fit", f"--config={task}", "--config=rl/td_mpc.yaml", "--print_config"])
    planner = yaml.safe_load(capsys.readouterr().out)["model"]["init_args"]["planner"]["init_args"]
    assert planner["trajopt"]["init_args"]["solver"] == {
        "class_path": "difftori_pl.MPPI",
        "init_args": {
            "max_steps": 6, "n_samples": 512, "n_elites": 64, "temperature": 0.5, "momentum": 0.1, "min_std": 0.05,
            "max_std": 2.0, "seed": None,
        },
    }  # fmt: skip
    assert planner["trajopt"]["init_args"]["n_starts"] == 1
    assert (planner["n_policy_starts"], planner["warm_start"], planner["policy_std"]) == (25, True, 0.05)


@pytest.mark.parametrize(
    "task", ["rl_cartpole_swingup_state.yaml", "rl_reacher_easy_state.yaml", "rl_walker_walk.yaml"]
)
def test_gradient_plans_differ_from_td_mpc_in_the_planner_only(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for method in ("td_mpc", "gradient_plans"):
        with pytest.raises(SystemExit):
            run(["fit", f"--config={task}", f"--config=rl/{method}.yaml", "--print_config"])
        printed.append(yaml.safe_load(capsys.readouterr().out))
    sampling, gradient = (one["model"]["init_args"].pop("planner")["init_args"] for one in printed)
    assert printed[0] == printed[1]
    assert gradient["trajopt"]["init_args"]["solver"] == {
        "class_path": "difftori_pl.trajopt.solvers.Adam",
        "init_args": {
            "max_steps": 5, "learning_rate": 0.2, "final_learning_rate": 0.0, "beta_1": 0.9, "beta_2": 0.999,
            "epsilon": 1e-8, "grad_tolerance": 0.0,
        },
    }  # fmt: skip
    assert gradient["trajopt"]["init_args"]["backward_mode"]["class_path"] == "difftori_pl.Detached"
    assert (gradient["trajopt"]["init_args"]["n_starts"], gradient["n_policy_starts"], gradient["warm_start"]) == (
        6, 1, True,
    )  # fmt: skip
    assert sampling["disagreement_penalty"] == gradient["disagreement_penalty"] == 0.0
