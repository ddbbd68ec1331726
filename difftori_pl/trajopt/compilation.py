"""Compilation of solver steps with torch.compile."""

from collections.abc import Callable, Hashable
from functools import cache
from types import FunctionType
from typing import Any

import torch

from difftori_pl.errors import ConfigurationError

BACKEND = "inductor"
"""Backend of torch.compile; tests use a faster one."""


@cache
def compiled(function: FunctionType, kind: Hashable, cuda_graph: bool) -> Callable[..., Any]:
    """Compile `function` without graph breaks; the batch size becomes symbolic when it first changes.

    Args:
        function: takes and returns tensors and records of tensors.
        kind: key of the compiled variant, such as solver and shape. torch compiles one function at most eight times,
            which a few horizons and solvers would use up; each kind compiles its own copy, with its own limit.
        cuda_graph: whether to launch the function as one recorded CUDA graph. Its outputs are overwritten by the first
            call after `torch.compiler.cudagraph_mark_step_begin`.

    Raises:
        ConfigurationError: when called, if the function cannot be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # Imported here because it takes seconds.

    copy = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    mode = "reduce-overhead" if cuda_graph else None
    compiled_function = torch.compile(copy, fullgraph=True, backend=BACKEND, mode=mode)

    def call(*arguments: Any) -> Any:
        try:
            return compiled_function(*arguments)
        except TorchDynamoException as error:
            raise ConfigurationError(
                "torch could not compile a step of the solver on this objective: set compiled to False, or fix the "
                "objective or the set-up (compiling needs a C++ compiler such as g++); torch reported: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error

    return call
