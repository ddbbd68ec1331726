"""The check of an exported program refuses faulty programs and leaves no file of them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from difftori_pl import TDMPC2, Detached, DiffTORIRL, LinearSchedule, Planner, TrajOptLayer
from difftori_pl.deployment import export as module
from difftori_pl.deployment.export import Program, export
from difftori_pl.errors import ExportError
from difftori_pl.models.encoders import StateEncoder
from difftori_pl.models.policy import Observation, Policy, State
from difftori_pl.trajopt.bounds import Unbounded
from difftori_pl.trajopt.solvers import Adam

Fault = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]

FAULTS: dict[str, Fault] = {
    "an action that is not a number": lambda given: (given[0] * float("nan"), *given[1:]),
    "a memory that stays at zero": lambda given: (given[0], *(0 * state for state in given[1:])),
    "a memory that is not a number": lambda given: (given[0], *(float("nan") * state for state in given[1:])),
}


class RunningSum(nn.Module, Policy):
    """A policy whose action depends on the sum of the encoded observations."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = StateEncoder({"position": 2}, latent_dim=2, hidden_dims=[32], normalize=False)

    def initial_state(self, batch_size: int) -> State:
        return {"sum": torch.zeros(batch_size, 2)}

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        total = state["sum"] + self.encoder(obs, {})[0][:, -1]
        return total.tanh(), {"sum": total}


@pytest.fixture(autouse=True)
def policy(monkeypatch: pytest.MonkeyPatch) -> RunningSum:
    torch.manual_seed(0)
    made = RunningSum()
    monkeypatch.setattr(module, "load_module", lambda checkpoint: made)
    return made


def break_programs(monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    """Make the written programs return faulty results."""
    save = module._save_pt2

    def save_broken(step: Any, traced: Any, output: Path) -> Program:
        program = save(step, traced, output)
        return lambda *tensors: fault(tuple(program(*tensors)))

    monkeypatch.setattr(module, "_save_pt2", save_broken)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_program_is_refused_and_replaces_no_file(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_programs(monkeypatch, FAULTS[name])
    output = tmp_path / "policy.pt2"
    with pytest.raises(ExportError, match=r"must be within 1e-05 of the policy's, got a difference of"):
        export(Path("last.ckpt"), output, n_runs=1)
    assert names(tmp_path) == []
    output.write_bytes(b"an earlier program")
    with pytest.raises(ExportError):
        export(Path("last.ckpt"), output, n_runs=1)
    assert output.read_bytes() == b"an earlier program"
    assert names(tmp_path) == ["policy.pt2"]


def test_a_correct_program_replaces_an_earlier_one(policy: RunningSum, tmp_path: Path) -> None:
    output = tmp_path / "policy.pt2"
    output.write_bytes(b"an earlier program")
    assert export(Path("last.ckpt"), output, n_runs=1).error <= 1e-5
    assert names(tmp_path) == ["policy.pt2"]
    action, total = torch.export.load(output).module()(torch.ones(1, 1, 2), torch.ones(1, 2))
    expected, state = policy.act({"position": torch.ones(1, 1, 2)}, {"sum": torch.ones(1, 2)})
    torch.testing.assert_close((action, total), (expected, state["sum"]))


@pytest.mark.filterwarnings("ignore")  # torch.onnx uses deprecated names of other packages
@pytest.mark.parametrize("large", [False, True])
def test_an_onnx_file_is_written_with_its_weights(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    if large:  # torch puts weights above 1.5 GB into a separate file, even with external_data=False
        write = torch.onnx.export
        monkeypatch.setattr(torch.onnx, "export", lambda *args, **kw: write(*args, **kw | {"external_data": True}))
    output = tmp_path / "policy.onnx"
    assert export(Path("last.ckpt"), output, n_runs=1).error <= 1e-5
    assert names(tmp_path) == ["policy.onnx", "policy.onnx.data"][: 1 + large]
    onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])


def planning() -> DiffTORIRL:
    """Make a policy that plans by gradient in a task that may end."""
    torch.manual_seed(0)
    encoder = StateEncoder({"state": 1}, None, normalize=False)
    model = TDMPC2(encoder, 1, 16, [32], 32, n_bins=21, max_symlog=4.0, episode_steps=100, episodic=True)
    with torch.no_grad():  # the last layers begin at zero, and the gradient is then rounding
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    planner = Planner(TrajOptLayer(Adam(1, 0.1), Detached()), n_policy_starts=0)
    return DiffTORIRL(model, planner, LinearSchedule(2, 2, 0), LinearSchedule(0.0, 0.0, 0)).eval()


@pytest.mark.filterwarnings("ignore")  # torch.onnx uses deprecated names of other packages
@pytest.mark.parametrize("name", ["policy.pt2", "policy.onnx"])
def test_a_planner_in_a_task_that_may_end_is_exported(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name.endswith(".onnx"):
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    used = planning()
    action, _ = used.act({"state": torch.ones(1, 1, 1)}, used.initial_state(1))
    assert action.abs() > 0.05
    # Another one, whose counters have not been read.
    monkeypatch.setattr(module, "load_module", lambda checkpoint: planning())
    if name.endswith(".pt2") and torch.__version__.startswith("2.8."):
        with pytest.raises(ExportError, match="cannot write a program with infinite constants"):
            export(Path("last.ckpt"), tmp_path / name, n_runs=1)
        return
    written = export(Path("last.ckpt"), tmp_path / name, n_runs=1)
    assert written.inputs == ["state", "plan"]
    assert written.error <= 1e-5


def test_a_torch_that_cannot_write_infinity_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise ValueError("Out of range float values are not JSON compliant")

    monkeypatch.setattr(torch.export, "save", refuse)
    with pytest.raises(ExportError, match=r"^torch .* cannot write a program with infinite constants .*newer torch"):
        export(Path("last.ckpt"), tmp_path / "policy.pt2", n_runs=1)
    assert names(tmp_path) == []


class FlatPlanner(RunningSum):
    """A policy that plans from its sum on a score that is flat beyond 0.1, where the gradient is exactly zero."""

    layer = TrajOptLayer(Adam(2, 0.1), Detached(), bounds=Unbounded())

    def act(self, obs: Observation, state: State) -> tuple[Tensor, State]:
        _, state = super().act(obs, state)
        solution = self.layer(lambda _, actions: actions.clamp(-0.1, 0.1).sum((1, 2)), {}, state["sum"][:, None])
        return solution.actions[:, 0], state


@pytest.mark.filterwarnings("ignore")  # torch.onnx uses deprecated names of other packages
def test_steps_without_a_gradient_are_finite_in_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(module, "load_module", lambda checkpoint: FlatPlanner())
    export(Path("last.ckpt"), tmp_path / "policy.onnx", n_runs=1)
    session = onnxruntime.InferenceSession(str(tmp_path / "policy.onnx"), providers=["CPUExecutionProvider"])
    given = {"position": np.full((1, 1, 2), 1.0, np.float32), "sum": np.full((1, 2), 10.0, np.float32)}
    action, *_ = session.run(None, given)
    assert np.isfinite(action).all()


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "first\nNo ONNX function found for <OpOverload(op='aten.sort', overload='default')>. Failure",
            "ONNX has no operator aten.sort",
        ),
        ("a reason\nand its details", "a reason"),
    ],
)
def test_a_policy_without_an_onnx_form_is_refused_in_one_line(
    said: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError(said)

    monkeypatch.setattr(torch.onnx, "export", refuse)
    with pytest.raises(ExportError, match=rf"^the policy cannot be exported to ONNX \({reason}\): write a \.pt2 file$"):
        export(Path("last.ckpt"), tmp_path / "policy.onnx", n_runs=1)
    assert names(tmp_path) == []


def test_a_program_returns_nan_and_its_memory_for_a_non_finite_observation(tmp_path: Path) -> None:
    export(Path("last.ckpt"), tmp_path / "policy.pt2", n_runs=1)
    program = torch.export.load(tmp_path / "policy.pt2").module()
    memory = torch.ones(1, 2)
    for number in (float("nan"), float("inf")):
        action, kept = program(torch.tensor([[[0.0, number]]]), memory)
        assert torch.isnan(action).all()
        torch.testing.assert_close(kept, memory)
