"""Compiled steps."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch


@cache
def compiled(function: Callable[..., Any], cuda_graph: bool) -> Callable[..., Any]:
    """Compile `function` without graph breaks, once; sizes that change become symbols at their first change.

    Args:
        function: takes and returns tensors, and records of them.
        cuda_graph: whether to launch it as one recorded CUDA graph. What it returned is overwritten by the first call
            after `torch.compiler.cudagraph_mark_step_begin`.
    """
    return torch.compile(function, fullgraph=True, mode="reduce-overhead" if cuda_graph else None)
