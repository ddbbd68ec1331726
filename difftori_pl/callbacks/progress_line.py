"""A line of progress: in place on a terminal, in the log elsewhere."""

import logging
import math
import os
import sys
import time
from contextlib import ExitStack

from lightning_utilities.core.rank_zero import rank_zero_info
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

LOG_EVERY = 30.0
"""Seconds between two lines where standard error is not a terminal, such as in a file."""

REFRESH_EVERY = 0.1
"""Seconds between two states of the line on a terminal."""


class ProgressLine:
    """Show one line of progress on standard error.

    On a terminal, the line is replaced, and log messages appear above it. Elsewhere, it is logged every `LOG_EVERY`
    seconds.

    Args:
        hidden: show nothing.
        leave: show the last state when the line is closed, and keep it on the terminal.
    """

    def __init__(self, hidden: bool = False, leave: bool = False) -> None:
        self._hidden = hidden
        self._leave = leave
        self._bar: tqdm[None] | None = None
        self._redirection = ExitStack()
        if not hidden and _on_terminal():
            self._redirection.enter_context(logging_redirect_tqdm(_loggers_with_a_console()))
            self._bar = tqdm(bar_format="{bar:12} {desc}", dynamic_ncols=True, leave=leave)
        self._shown = time.monotonic() - (0.0 if self._bar is None else REFRESH_EVERY)

    @property
    def due(self) -> bool:
        """Whether to show a new state now."""
        interval = LOG_EVERY if self._bar is None else REFRESH_EVERY
        return not self._hidden and time.monotonic() - self._shown >= interval

    def show(self, done: float, total: float, text: str) -> None:
        """Show a state.

        Args:
            done: number of steps, for the bar on a terminal.
            total: number of steps at the end; infinite if unknown.
            text: the line.
        """
        self._shown = time.monotonic()
        if self._hidden:
            return
        if self._bar is None:
            rank_zero_info(text)
            return
        self._bar.total = None if math.isinf(total) else total
        self._bar.n = done
        self._bar.set_description_str(text)

    def close(self) -> None:
        """Remove the line from the terminal, or leave it there."""
        if self._bar is not None:
            self._bar.close()
        self._redirection.close()


def _on_terminal() -> bool:
    """Return whether standard error is a terminal with a width; some build servers provide one without."""
    return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0


def _loggers_with_a_console() -> list[logging.Logger]:
    """Return the root logger and the loggers of Lightning that print their messages themselves."""
    names = ("lightning", "lightning.pytorch", "lightning.fabric")
    return [logging.root, *(logger for name in names if (logger := logging.getLogger(name)).handlers)]
