"""Loading and exporting trained policies."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from difftori_pl import load_policy
from difftori_pl.cli import main
from difftori_pl.deployment.deploy import load_module
from difftori_pl.deployment.export import export
from difftori_pl.errors import CheckpointError, ConfigurationError, ExportError, NotFiniteError, ShapeError
from tests.conftest import SQUARE_OBS


@pytest.fixture(scope="session")
def refined(train: Callable[..., Path], low_dim_base: Path) -> Path:
    """Train DiffTORI with a mixture as base policy and return the checkpoint."""
    options = [f"--model.base_policy.checkpoint={low_dim_base}", "--model.encoder.hidden_dim=8"]
    return train("il_square_low_dim.yaml", *options, "--model.trajopt.solver.max_steps=2")


@pytest.fixture(scope="session")
def refined_without_draws(train: Callable[..., Path]) -> Path:
    """Train DiffTORI with the base policy `Zeros`, which draws no random numbers, and return the checkpoint."""
    options = ["--model.base_policy=Zeros", "--model.base_policy.action_dim=7", "--model.encoder.hidden_dim=8"]
    return train("il_square_low_dim.yaml", *options, "--model.trajopt.solver.max_steps=2")


def observations(n_steps: int) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{key: random.normal(size=shape) for key, shape in SQUARE_OBS.items()} for _ in range(n_steps)]


def test_a_loaded_policy_acts_as_the_module(refined: Path) -> None:
    policy, module = load_policy(refined), load_module(refined)
    for _ in range(2):  # the second episode must equal the first
        policy.reset()
        torch.manual_seed(1)
        ours = [policy.act(observation) for observation in observations(3)]
        torch.manual_seed(1)
        state = module.initial_state(1)
        for observation, action in zip(observations(3), ours, strict=True):
            obs = {key: torch.tensor(value, dtype=torch.float32)[None, None] for key, value in observation.items()}
            with torch.inference_mode():
                expected, state = module.act(obs, state)
            np.testing.assert_array_equal(action, expected[0].numpy())
    assert ours[0].shape == (7,)
    assert ours[0].dtype == np.float32


def test_observations_are_checked(refined: Path, image_base: Path) -> None:
    policy = load_policy(refined)
    (observation,) = observations(1)
    with pytest.raises(ShapeError, match=r"got no 'object'"):
        policy.act({key: value for key, value in observation.items() if key != "object"})
    with pytest.raises(ShapeError, match=r"'object' with shape \(14,\), got \(3,\)"):
        policy.act(observation | {"object": np.zeros(3)})
    assert policy.act(observation | {"temperature": np.zeros(1)}).shape == (7,)
    images = load_policy(image_base)
    with pytest.raises(ShapeError, match=r"got \(84, 84, 3\): put the channels first"):
        images.act(
            {
                key: np.zeros((84, 84, 3) if spec.kind == "image" else spec.shape)
                for key, spec in images.obs_specs.items()
            }
        )


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_images_are_not_converted(image_base: Path, dtype: type) -> None:
    policy = load_policy(image_base)
    observation = {key: np.zeros(spec.shape, np.uint8) for key, spec in policy.obs_specs.items()}
    assert policy.act(observation).shape == (7,)  # vectors may have any dtype
    name = np.dtype(dtype).name
    with pytest.raises(ShapeError, match=rf"'agentview_image' as uint8 from 0 to 255, got {name}"):
        policy.act(observation | {"agentview_image": np.zeros((3, 84, 84), dtype)})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 1e39])
def test_a_non_finite_observation_is_an_error_and_leaves_the_memory_unchanged(
    low_dim_base: Path, number: float
) -> None:
    policy = load_policy(low_dim_base)
    before, after = observations(2)
    torch.manual_seed(1)
    expected = [policy.act(before), policy.act(after)]
    policy.reset()
    torch.manual_seed(1)
    np.testing.assert_array_equal(policy.act(before), expected[0])
    with pytest.raises(NotFiniteError, match="observation 'object' must be finite in float32"):
        policy.act(after | {"object": np.full(14, number)})
    np.testing.assert_array_equal(policy.act(after), expected[1])


def test_a_failed_solve_is_an_error_and_leaves_the_memory_unchanged(refined: Path) -> None:
    policy = load_policy(refined)
    (observation,) = observations(1)
    memory = {name: value.clone() for name, value in policy._state.items()}
    next(policy.policy.score.parameters()).data.fill_(torch.nan)  # type: ignore[attr-defined]
    with pytest.raises(NotFiniteError, match=r"expected a finite action, .*difftori checkpoint show"):
        policy.act(observation)
    assert all(torch.equal(policy._state[name], value) for name, value in memory.items())


def test_an_unavailable_device_is_named(refined: Path) -> None:
    for device in ["no_such_device"] + ["cuda"] * (not torch.cuda.is_available()):
        with pytest.raises(ConfigurationError, match=f"device '{device}' is not available .*use device='cpu'"):
            load_policy(refined, device=device)


def test_a_checkpoint_without_a_description_is_refused(tmp_path: Path) -> None:
    torch.save({"state_dict": {}, "hyper_parameters": {}}, tmp_path / "last.ckpt")
    with pytest.raises(CheckpointError, match="does not describe its model"):
        load_policy(tmp_path / "last.ckpt")


@pytest.mark.slow
def test_difftori_on_a_mixture_is_exported_to_pt2(
    refined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "policy.pt2"
    main(["export", f"--ckpt={refined}", f"--output={output}", "--n_runs=3"])
    printed = capsys.readouterr().out
    assert "object" in printed
    assert "99th percentile" in printed
    program = torch.export.load(output).module()
    module = load_module(refined)
    state = module.initial_state(1)
    obs = {key: torch.ones(1, 1, *shape) for key, shape in SQUARE_OBS.items()}
    torch.manual_seed(2)
    expected, _ = module.act(obs, state)
    torch.manual_seed(2)
    action, *_ = program(*obs.values(), *state.values())
    torch.testing.assert_close(action, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_deterministic_policy_is_exported_to_onnx(refined_without_draws: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    written = export(refined_without_draws, tmp_path / "policy.onnx", n_runs=3)
    assert written.error <= 1e-5
    assert written.outputs[0] == "action"
    assert written.eager.median > 0


def test_errors_name_the_part_that_cannot_be_exported(
    refined: Path, train: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"draws random numbers \(.*multinomial.*\).*\.pt2"):
        export(refined, tmp_path / "policy.onnx")
    with pytest.raises(ExportError, match=r"ends in \.pt2 \(torch.export\) or \.onnx, got .*policy\.bin"):
        export(refined, tmp_path / "policy.bin")
    diffusion = train("diffusion_square_low_dim.yaml", "--model.policy.dims=[8, 16]")
    with pytest.raises(ExportError, match=r"DiffusionPolicy cannot be exported: .*difftori_pl.load_policy"):
        export(diffusion, tmp_path / "policy.pt2")
