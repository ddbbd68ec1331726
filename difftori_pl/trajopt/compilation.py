"""Compiled steps."""

from collections.abc import Callable, Hashable
from functools import cache
from types import FunctionType
from typing import Any

import torch

from difftori_pl.errors import ConfigurationError

BACKEND = "inductor"
"""What makes machine code of the steps; tests take a cheaper one."""


@cache
def compiled(function: FunctionType, kind: Hashable, cuda_graph: bool) -> Callable[..., Any]:
    """Compile `function` without graph breaks; a batch size that changes becomes a symbol at its first change.

    Args:
        function: takes and returns tensors, and records of them.
        kind: what the machine code is made for. torch compiles one function at most eight times, which many horizons
            and solvers would soon use up; each kind gets a copy that is counted on its own.
        cuda_graph: whether to launch it as one recorded CUDA graph. What it returned is overwritten by the first call
            after `torch.compiler.cudagraph_mark_step_begin`.

    Raises:
        ConfigurationError: when called, if the function cannot be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # Takes seconds to import, which only those pay who compile.

    own = FunctionType(function.__code__.replace(), function.__globals__, function.__name__)
    mode = "reduce-overhead" if cuda_graph else None
    machine_code = torch.compile(own, fullgraph=True, backend=BACKEND, mode=mode)

    def call(*arguments: Any) -> Any:
        try:
            return machine_code(*arguments)
        except TorchDynamoException as error:
            raise ConfigurationError(
                "torch could not compile a step of the solver on this objective: set compiled to False, or see what it "
                f"says, which may be that a C++ compiler (g++) is missing: {str(error).strip().splitlines()[0]}"
            ) from error

    return call
