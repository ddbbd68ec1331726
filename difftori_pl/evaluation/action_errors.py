"""Errors of a policy's actions on recorded episodes: their mean and interval, and the file that holds them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from difftori_pl.evaluation.metrics import mean_interval
from difftori_pl.evaluation.run_files import descriptions_of


class MeanError(NamedTuple):
    """Mean over episodes with its 95 % bootstrap interval, which is infinite for a single episode."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        """Format for tables: `3.2 (2.9 to 3.5)`."""
        if math.isinf(self.low):
            return f"{self.mean:.4g} (one episode has no interval)"
        return f"{self.mean:.4g} ({self.low:.4g} to {self.high:.4g})"


def mean_error(errors: Sequence[float]) -> MeanError:
    """Average the errors of episodes."""
    return MeanError(sum(errors) / len(errors), *mean_interval(errors))


@dataclass(frozen=True)
class ActionErrors:
    """Errors of the policies' actions on the same recorded episodes.

    Attributes:
        methods: name of a policy, the trained one (`policy`) first -> its classes and those of its base policies.
        errors: name of a policy -> root mean square error of each episode, in the units of the data.
        held_out: whether the episodes are held out; otherwise they are those of training.
    """

    methods: Mapping[str, str]
    errors: Mapping[str, Sequence[float]]
    held_out: bool

    def difference(self, other: str) -> MeanError:
        """Return the trained policy's error minus that of another policy, paired by episodes."""
        pairs = zip(self.errors["policy"], self.errors[other], strict=True)
        return mean_error([ours - theirs for ours, theirs in pairs])


def write_errors(found: ActionErrors, folder: Path, step: int, run: Mapping[str, Any]) -> None:
    """Write the errors to a file in the log folder.

    Args:
        found: the errors.
        folder: the log folder, created if missing.
        step: number of updates after which the policy was saved.
        run: what `identify_run` returns.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"held_out_step{step}.json").write_text(json.dumps({**run, **vars(found)}, indent=1) + "\n")


def errors_of(checkpoint: Path, step: int) -> ActionErrors | None:
    """Read the errors of the latest test of a checkpoint; None if there are none.

    Args:
        checkpoint: a `.ckpt` file; see `descriptions_of`.
        step: number of updates after which it was saved.
    """
    found = [description for _, description in descriptions_of(checkpoint, f"held_out_step{step}.json")]
    return ActionErrors(**{name: found[-1][name] for name in ("methods", "errors", "held_out")}) if found else None
