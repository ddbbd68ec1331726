"""Words of the progress line: counts, speed and time left."""

import math
from collections import deque

SEPARATOR = " · "

WINDOW = 600.0
"""Seconds over which the speed is averaged. A window holds several evaluations, which slow a run down."""

SPACING = 1.0
"""Seconds between two remembered counts."""


class Speed:
    """Steps per second over the last `WINDOW` seconds, pauses for evaluation included."""

    def __init__(self) -> None:
        self._counts: deque[tuple[float, float]] = deque()

    def add(self, seconds: float, count: float) -> None:
        """Remember the number of steps `count` at the time `seconds`."""
        if not self._counts or seconds - self._counts[-1][0] >= SPACING:
            self._counts.append((seconds, count))
        while len(self._counts) > 2 and seconds - self._counts[1][0] >= WINDOW:
            self._counts.popleft()

    def at(self, seconds: float, count: float) -> float:
        """Return the steps per second up to the time `seconds` with `count` steps; 0 if unknown."""
        if not self._counts:
            return 0.0
        start, first = self._counts[0]
        return max(0.0, count - first) / (seconds - start) if seconds > start else 0.0


def of_total(count: float, total: float) -> str:
    """Return "1,240/16,000", or "1,240" if the total is infinite."""
    return f"{count:,.0f}" + ("" if math.isinf(total) else f"/{total:,.0f}")


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent up to a million."""
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def speed(rate: float, unit: str) -> str:
    """Return "25 it/s", or "4 s/it" for less than one step per second.

    Args:
        rate: steps per second, above 0.
        unit: name of a step, such as "it" or "steps".
    """
    if rate < 1:
        return f"{1 / rate:.2g} s/{unit.removesuffix('s')}"
    return f"{rate:,.0f} {unit}/s" if rate >= 10 else f"{rate:.1f} {unit}/s"


def duration(seconds: float) -> str:
    """Return a duration in its two largest units, such as "40 s", "9 min" or "2 h 5 min"."""
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    if days:
        return f"{days} d {hours % 24} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
