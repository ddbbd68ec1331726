"""Losses of an update, compiled together with their gradients."""

from collections.abc import Callable
from types import MethodType
from typing import Any

from difftori_pl.trajopt import compilation


class CompiledLosses:
    """Call losses; if `enabled`, compile each one, with its gradient, at its first call.

    A loss is compiled for the sizes of its arguments. All batches of a run have the same sizes, also when the horizon
    schedule changes the number of planned actions, so that each loss is compiled once. If the batch size changes, torch
    compiles it up to two more times, for any size and for size 1; after eight compilations it raises an error.

    Random numbers come from the same kernels as without compilation, so that the results differ by rounding only.

    Args:
        enabled: whether to compile.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._compiled: dict[str, Callable[..., Any]] = {}

    def __call__(self, loss: Callable[..., Any], *arguments: Any) -> Any:
        """Return `loss(*arguments)`.

        Raises:
            ConfigurationError: torch cannot compile the loss.
        """
        if not self.enabled:
            return loss(*arguments)
        name = loss.__qualname__
        function: Any = loss
        if isinstance(loss, MethodType):
            function, arguments = loss.__func__, (loss.__self__, *arguments)
        if name not in self._compiled:
            # Other backends, which tests use, draw the eager random numbers anyway and have no such option.
            options = {"options": {"fallback_random": True}} if compilation.BACKEND == "inductor" else {}
            self._compiled[name] = compilation.compile_copy(function, name, "the networks", **options)
        return self._compiled[name](*arguments)

    def __reduce__(self) -> Any:
        # Compiled code can be neither copied nor pickled.
        return CompiledLosses, (self.enabled,)
