"""Compilation of functions with torch.compile."""

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
    """Compile a copy of `function`; the batch size becomes symbolic when it first changes.

    Args:
        function: takes and returns tensors and records of tensors.
        kind: key of the compiled variant, such as solver and shape. torch compiles one function at most eight times,
            which a few horizons and solvers would use up; each kind compiles its own copy, with its own limit.
        cuda_graph: whether to launch the function as one recorded CUDA graph. Its outputs are overwritten by the first
            call after `torch.compiler.cudagraph_mark_step_begin`.

    Raises:
        ConfigurationError: when called, if the function cannot be compiled.
    """
    mode = "reduce-overhead" if cuda_graph else None
    return compile_copy(function, "a step of the solver on this objective", "the objective", mode=mode)


def compile_copy(function: FunctionType, subject: str, cause: str, **options: Any) -> Callable[..., Any]:
    """Compile a copy of `function` without graph breaks.

    Args:
        function: takes and returns tensors and records of tensors.
        subject: what is compiled, for the message of an error.
        cause: what to fix, for the same message.
        options: further arguments of `torch.compile`.

    Raises:
        ConfigurationError: when called, if the function cannot be compiled.
    """
    from torch._dynamo.exc import TorchDynamoException  # Imported here because it takes seconds.

    copy = FunctionType(
        function.__code__.replace(),
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    compiled_function = torch.compile(copy, fullgraph=True, backend=BACKEND, **options)

    def call(*arguments: Any) -> Any:
        try:
            return compiled_function(*arguments)
        except TorchDynamoException as error:
            raise ConfigurationError(
                f"torch could not compile {subject}: set compiled to False, or fix {cause} or the set-up (compiling "
                f"needs a C++ compiler such as g++); torch reported: {str(error).strip().splitlines()[0]}"
            ) from error

    return call
