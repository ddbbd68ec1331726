"""Counts of reads on the host and of kernels, from the operators that torch dispatches.

Both show on a CPU what slows a GPU down: a read makes the program wait for the device, and each kernel costs a launch.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

READS = {"_local_scalar_dense", "nonzero", "is_nonzero", "masked_select", "unique", "_unique2", "equal"}
"""Operators whose result, or the shape of whose result, the host has to wait for."""

TRANSFERS = (Tensor.tolist, Tensor.cpu, Tensor.numpy, Tensor.__array__, Tensor.__reduce_ex__)
"""Methods that read a tensor on the host, but dispatch no operator if it is on a CPU."""

NO_KERNEL = {
    "_unsafe_view", "empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "lift_fresh",
    "promote_types", "_record_function_enter_new", "_record_function_exit",
}  # fmt: skip


class HostReads(TorchDispatchMode):
    """Fail at a read on the host.

    Args:
        allowed: number of reads that are expected; the next one raises an error.
    """

    def __init__(self, allowed: int = 0) -> None:
        super().__init__()
        self.allowed = allowed
        self.count = 0
        self._transfers = _Transfers(self)

    def add(self, name: str) -> None:
        self.count += 1
        assert self.count <= self.allowed, f"{name} is read number {self.count} on the host, expected {self.allowed}"

    def __enter__(self) -> "HostReads":
        self._transfers.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._transfers.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _name(func) in READS or _indexes_by_mask(func, args):
            self.add(_name(func))
        return func(*args, **(kwargs or {}))


class _Transfers(TorchFunctionMode):
    def __init__(self, reads: HostReads) -> None:
        super().__init__()
        self.reads = reads

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in TRANSFERS:
            self.reads.add(func.__name__)
        return func(*args, **(kwargs or {}))


class Kernels(TorchDispatchMode):
    """Count the kernels by name; views and allocations launch none."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    @property
    def count(self) -> int:
        return self.names.total()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if _name(func) not in NO_KERNEL and not _is_view(func):
            self.names[_name(func)] += 1
        return func(*args, **(kwargs or {}))


def count_kernels(function: Callable[[], object]) -> int:
    """Return the number of kernels that a call dispatches."""
    with Kernels() as kernels:
        function()
    return kernels.count


def _name(func: Any) -> str:
    name: str = func.overloadpacket.__name__
    return name


def _is_view(func: Any) -> bool:
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _indexes_by_mask(func: Any, args: tuple[Any, ...]) -> bool:
    return _name(func) in ("index", "index_put", "index_put_") and any(
        isinstance(index, Tensor) and index.dtype is torch.bool for index in args[1]
    )
