"""Export one step of a policy as a `torch.export` or ONNX program, and check and time the program."""

from __future__ import annotations

import re
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from datamodules.observation_spec import ObservationSpec
from difftori_pl.deployment.data_interface import DataInterface
from difftori_pl.deployment.deploy import load_module
from difftori_pl.errors import ExportError, MissingPackageError
from difftori_pl.models.encoders.base import observation_specs
from difftori_pl.models.finite import FiniteCheck
from difftori_pl.models.policy import Policy

Program = Callable[..., Sequence[Tensor]]
"""Maps the tensors of an observation and of a memory to the action and the tensors of the next memory."""

TOLERANCE = 1e-5
"""Largest difference between an exported action and the eager one, in the policy's units, [-1, 1]."""

N_CHECKED = 5
"""Steps of an episode on which the program is compared with the policy; each carries its own memory."""


@dataclass(frozen=True)
class Latency:
    """Duration of one step, in milliseconds.

    Attributes:
        median: median over the timed steps.
        p99: 99th percentile over the timed steps.
    """

    median: float
    p99: float

    def __str__(self) -> str:
        return f"median {self.median:.2f} ms, 99th percentile {self.p99:.2f} ms"


@dataclass(frozen=True)
class Export:
    """Description of an exported program.

    Attributes:
        inputs: names of the program's inputs, in order: observations (1, 1, ...), then the memory.
        outputs: names of its outputs: the action (1, A), then the memory for the next step.
        error: largest difference from the eager policy, in the policy's units, [-1, 1].
        eager: duration of a step of the policy in Python.
        exported: duration of a step of the program.
    """

    inputs: list[str]
    outputs: list[str]
    error: float
    eager: Latency
    exported: Latency


def export(checkpoint: Path, output: Path, n_runs: int = 100) -> Export:
    """Write one step of a trained policy as a program: `.pt2` for `torch.export`, `.onnx` for ONNX.

    The encoder, the base policy and a solve with a fixed number of iterations are traced together, including the
    gradients inside the solver. A program that draws random numbers draws them at run time. ONNX has other random
    number generators than PyTorch, so policies that draw random numbers cannot be exported to it.

    Args:
        checkpoint: a `.ckpt` file of a run that was started from a YAML file.
        output: the file to write; an existing file is replaced once the program has passed its check.
        n_runs: number of steps to time.

    Raises:
        ExportError: a part, which the message names, cannot be exported, or the program's actions differ.
        CheckpointError: the checkpoint cannot be loaded.
    """
    if output.suffix not in (".pt2", ".onnx"):
        raise ExportError(f"expected a file name that ends in .pt2 (torch.export) or .onnx, got {output}: rename it")
    module = load_module(checkpoint)
    step = _Step(module)
    traced = _trace(step)
    output.parent.mkdir(parents=True, exist_ok=True)
    # A temporary folder, not a temporary name: torch writes the file's name into the program.
    with TemporaryDirectory(dir=output.parent, prefix=f".{output.name}.") as folder:
        draft = Path(folder) / output.name
        program = (_save_onnx if output.suffix == ".onnx" else _save_pt2)(step, traced, draft)
        error = _largest_difference(step, program)
        if not error <= TOLERANCE:  # so that NaN is refused too
            raise ExportError(
                f"{output} was not written: the program's actions must be within {TOLERANCE:g} of the policy's, got a "
                f"difference of {error:.2g}: deploy the policy with difftori_pl.load_policy"
            )
        # torch.onnx puts weights above 1.5 GB into a separate file. Move the program, which refers to it, last.
        for file in sorted(draft.parent.iterdir(), key=lambda file: file == draft):
            file.replace(output.with_name(file.name))
    return Export(
        step.inputs, step.outputs, error, eager=_time(step, step, n_runs), exported=_time(step, program, n_runs)
    )


class _Step(nn.Module):
    """One step of a policy whose inputs and outputs are plain tensors; actions are in the data's units.

    If an observation holds NaN or infinity, or if a solve fails, the action is NaN and the memory is returned
    unchanged: a program cannot raise an error.
    """

    def __init__(self, policy: Policy) -> None:
        super().__init__()
        self.policy = policy
        self.obs_specs = observation_specs(policy)
        self._finite = FiniteCheck(policy)
        self.data = DataInterface(policy)
        self.state_keys = list(policy.initial_state(1))
        self.inputs = [*self.obs_specs, *self.state_keys]
        self.outputs = ["action", *(f"next_{key}" for key in self.state_keys)]

    @torch.no_grad()
    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        named = dict(zip(self.inputs, tensors, strict=True))
        obs = {key: named[key] for key in self.obs_specs}
        action, state = self.policy.act(obs, {key: named[key] for key in self.state_keys})
        action = self.data.restore(action)
        finite = [self._finite.is_finite(key, value) for key, value in obs.items() if value.is_floating_point()]
        usable = torch.stack([*finite, torch.isfinite(action).all()]).all()
        nothing = torch.zeros_like(action)  # torch 2.8 cannot export a NaN that is written as a number
        memory = (torch.where(usable, state[key], named[key]) for key in self.state_keys)
        return (torch.where(usable, action, nothing / nothing), *memory)

    def example(self, seed: int = 0) -> list[Tensor]:
        """Return a random observation and the memory at the start of an episode."""
        generator = torch.Generator().manual_seed(seed)

        def draw(spec: ObservationSpec) -> Tensor:
            if spec.dtype == "uint8":
                return torch.randint(256, (1, 1, *spec.shape), generator=generator, dtype=torch.uint8)
            return torch.randn(1, 1, *spec.shape, generator=generator)

        return [*map(draw, self.obs_specs.values()), *self.policy.initial_state(1).values()]


@contextmanager
def _traceable() -> Iterator[None]:
    """Disable the checks of distributions, which read values, and oneDNN, whose LSTM operator few runtimes have."""
    checks = torch.distributions.Distribution._validate_args
    torch.distributions.Distribution.set_default_validate_args(False)
    try:
        with warnings.catch_warnings():
            # torch warns about Intel GPUs whenever these flags are set.
            warnings.simplefilter("ignore", UserWarning)
            with torch.backends.mkldnn.flags(enabled=False):
                yield
    finally:
        torch.distributions.Distribution.set_default_validate_args(checks)


class _FixedWay(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuse operators whose output shapes or Python values depend on data: such control flow cannot be traced."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if {torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(func.tags):
            raise RuntimeError(str(func))
        return func(*args, **(kwargs or {}))


def _trace(step: _Step) -> Any:
    """Trace the operators of a step, including the solver's gradients, which `torch.export` alone cannot trace."""
    try:
        with _traceable(), torch.no_grad():
            step(*step.example())  # counters are copied to the host at the first step (`HostCounter`)
            with _FixedWay():  # type: ignore[no-untyped-call]
                step(*step.example())
            in_parts: Any = get_decompositions([torch.ops.aten.mish_backward])  # ONNX has no such operator
            return make_fx(lambda *tensors: step(*tensors), decomposition_table=in_parts)(*step.example())
    except Exception as error:  # the tracer raises many types; the message needs the part that failed
        raise ExportError(
            f"{_part_of(error)} cannot be exported: its control flow depends on values at run time "
            f"({str(error).strip().splitlines()[0]}): deploy the policy with difftori_pl.load_policy, or replace this "
            "part"
        ) from error


def _part_of(error: Exception) -> str:
    """Name the innermost class of this package in an exception's traceback."""
    name = "the policy"
    for frame, _ in traceback.walk_tb(error.__traceback__):
        owner = type(frame.f_locals.get("self"))
        if owner.__module__.startswith("difftori_pl.") and not owner.__name__.startswith("_"):
            name = owner.__name__
    return name


def _save_pt2(step: _Step, traced: Any, output: Path) -> Program:
    program = torch.export.export(traced, tuple(step.example()))
    try:
        torch.export.save(program, output)
    except ValueError as error:  # infinite numbers bound the search for the best plan
        if "JSON compliant" not in str(error):
            raise
        raise ExportError(
            f"torch {torch.__version__} cannot write a program with infinite constants ({error}): install a newer "
            "torch, or deploy the policy with difftori_pl.load_policy"
        ) from error
    loaded: Program = torch.export.load(output).module()
    return loaded


def _save_onnx(step: _Step, traced: Any, output: Path) -> Program:
    drawn = {node.target.__name__ for node in traced.graph.nodes if _is_random(node)}
    if drawn:
        raise ExportError(
            "expected a deterministic policy, because ONNX would draw other random numbers, got one that draws random "
            f"numbers ({', '.join(sorted(drawn))}): write a .pt2 file, or set model.init_args.prior_temperature to 0 "
            "and use a base policy other than a mixture"
        )
    try:
        import onnxruntime
        import onnxscript  # noqa: F401  (torch.onnx needs it)
    except ImportError as error:
        raise MissingPackageError(f"ONNX needs more packages ({error}): pip install 'difftori-pl[export]'") from error
    try:
        torch.onnx.export(
            torch.export.export(traced, tuple(step.example())),
            (),
            str(output),
            input_names=step.inputs,
            output_names=step.outputs,
            dynamo=True,
            verbose=False,
            external_data=False,
        )
    except Exception as error:
        lacking = re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error))
        reason = f"ONNX has no operator {lacking[1]}" if lacking else str(error).strip().splitlines()[0]
        raise ExportError(f"the policy cannot be exported to ONNX ({reason}): write a .pt2 file") from error
    session = onnxruntime.InferenceSession(str(output), providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]

    def program(*tensors: Tensor) -> list[Tensor]:
        # The graph lacks inputs that do not influence its outputs.
        feed = {name: tensor.numpy() for name, tensor in zip(step.inputs, tensors, strict=True) if name in names}
        return [torch.from_numpy(value) for value in session.run(None, feed)]

    return program


def _is_random(node: Any) -> bool:
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


@torch.no_grad()
def _largest_difference(step: _Step, program: Program) -> float:
    """Return the largest difference of the actions over `N_CHECKED` steps with equal random numbers; NaN if one is."""
    differences = []
    state: Sequence[Tensor] = step.example()[len(step.obs_specs) :]
    own = state
    for seed in range(N_CHECKED):
        obs = step.example(seed)[: len(step.obs_specs)]
        torch.manual_seed(seed)
        expected = step(*obs, *state)
        torch.manual_seed(seed)
        given = program(*obs, *own)
        differences.append(((given[0] - expected[0]) / step.data.unit).abs().max())
        state, own = expected[1:], given[1:]
    return float(torch.stack(differences).max())  # unlike Python's max, Tensor.max propagates NaN


@torch.no_grad()
def _time(step: _Step, program: Program, n_runs: int) -> Latency:
    tensors = step.example()
    times = []
    for _ in range(n_runs + 3):
        begin = time.perf_counter()
        program(*tensors)
        times.append(1000.0 * (time.perf_counter() - begin))
    measured = torch.tensor(times[3:])  # the first three are warm-up
    return Latency(float(measured.median()), float(measured.quantile(0.99)))
