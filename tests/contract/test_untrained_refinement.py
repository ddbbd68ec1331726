"""An untrained refinement acts as its base policy acts alone, for every shipped configuration."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from jsonargparse import ArgumentParser
from torch.testing import assert_close

from datamodules.observation_spec import ObservationSpec
from difftori_pl import DiffTORIIL
from difftori_pl.cli import SHIPPED_CONFIGS, run
from difftori_pl.errors import ConfigurationError
from difftori_pl.models.base_policies import BasePolicy
from difftori_pl.models.encoders import StateEncoder
from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.policy import Observation
from difftori_pl.trajopt import TrajOptLayer
from difftori_pl.trajopt.backward import Unroll
from difftori_pl.trajopt.bounds import Projection
from difftori_pl.trajopt.solvers import LevenbergMarquardt
from tests import cases

REFINEMENTS = sorted(path.name for path in SHIPPED_CONFIGS.glob("il_*.yaml"))
N_STEPS = 40


def resolved(config: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the values of a configuration with its templates and references."""
    with pytest.raises(SystemExit):
        run(["fit", f"--config={config}", "--print_config"])
    values: dict[str, Any] = yaml.safe_load(capsys.readouterr().out)
    return values


def run_folder(config: dict[str, Any]) -> Path:
    logger = config["trainer"]["logger"]["init_args"]
    return Path(logger["save_dir"]) / logger["name"]


def base_of(name: str, config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the base policy's class path and arguments.

    If the configuration names a checkpoint, they are those of the configuration that trains it.
    """
    base: dict[str, Any] = config["model"]["init_args"]["base_policy"]
    if not base["class_path"].endswith("from_checkpoint"):
        return base
    task = name.removeprefix("il_").removesuffix(".yaml").removesuffix("_diffusion")
    bases = [f"{method}_{task}.yaml" for method in ("bc", "bc_rnn", "diffusion")]
    folder = Path(base["init_args"]["checkpoint"])
    (policy,) = (
        values["model"]["init_args"]["policy"]
        for name in bases
        if (SHIPPED_CONFIGS / name).exists() and run_folder(values := resolved(name, capsys)) == folder
    )
    if "dims" in policy["init_args"]:
        policy["init_args"]["dims"] = [8, 16]  # a small U-Net
    return policy


def random_observation(specs: dict[str, ObservationSpec], batch_size: int) -> Observation:
    return {
        key: torch.randint(256, (batch_size, 1, *spec.shape), dtype=torch.uint8)
        if spec.kind == "image"
        else torch.randn(batch_size, 1, *spec.shape)
        for key, spec in specs.items()
    }


def assert_acts_as_its_base(module: DiffTORIIL) -> None:
    specs = observation_specs(module)
    batch_size = 1 if any(spec.kind == "image" for spec in specs.values()) else 2  # image encoders are slow
    module.action_scale.uniform_(0.2, 0.9)
    state, base_state = module.initial_state(batch_size), module.base_policy.initial_state(batch_size)
    for step in range(N_STEPS):
        torch.manual_seed(step)
        obs = random_observation(specs, batch_size)
        with torch.inference_mode():
            torch.manual_seed(step)
            expected, base_state = module.base_policy.act(obs, base_state)
            torch.manual_seed(step)
            actions, state = module.act(obs, state)
        assert_close(actions, expected, rtol=1e-5, atol=1e-6, msg=lambda text, step=step: f"step {step}: {text}")


@pytest.mark.parametrize("name", REFINEMENTS)
def test_a_shipped_refinement_begins_as_its_base(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    config = resolved(name, capsys)
    model = config["model"]
    model["init_args"]["base_policy"] = base_of(name, config, capsys)
    parser = ArgumentParser()
    parser.add_argument("--model", type=DiffTORIIL)
    module = parser.instantiate(parser.parse_object({"model": model})).model.eval()
    assert_acts_as_its_base(module)


@pytest.mark.parametrize("name", [name for name in cases.BASE_POLICIES if name != "noise"])
def test_every_base_policy_is_refined_from_its_own_actions_or_refused(name: str) -> None:
    torch.manual_seed(0)
    base = cases.BASE_POLICIES[name]().eval()
    for horizon, chunked in ((1, False), (2, True), (3, True)):
        if chunked and base.n_executed_steps not in (None, horizon):
            with pytest.raises(ConfigurationError, match=f"executes {base.n_executed_steps} of its actions"):
                refinement(base, horizon, chunked)
        else:
            assert_acts_as_its_base(refinement(base, horizon, chunked).eval())


def refinement(base: BasePolicy, horizon: int, chunked: bool) -> DiffTORIIL:
    return DiffTORIIL(
        encoder=StateEncoder({"position": 3}, None),
        base_policy=base,
        trajopt=TrajOptLayer(LevenbergMarquardt(max_steps=5), Unroll(), Projection()),
        horizon=horizon,
        chunked=chunked,
    )
