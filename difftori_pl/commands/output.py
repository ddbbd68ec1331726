"""Output of the commands."""

import logging
import sys

from lightning_utilities.core import rank_zero


def say(line: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")


def show_log() -> None:
    """Write the log to standard error and count this process as the only one, as Lightning does when it is imported."""
    if not hasattr(rank_zero.rank_zero_only, "rank"):
        rank_zero.rank_zero_only.rank = 0  # type: ignore[attr-defined]
        rank_zero.log.addHandler(logging.StreamHandler())
        rank_zero.log.setLevel(logging.INFO)
