"""Output of the commands."""

import sys


def say(line: str) -> None:
    """Write one line to standard output."""
    sys.stdout.write(line + "\n")
