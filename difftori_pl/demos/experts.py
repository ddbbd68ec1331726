"""The scripted experts, by the task names used on the command line."""

from __future__ import annotations

from difftori_pl.demos.expert import Expert
from difftori_pl.demos.lift import LiftExpert
from difftori_pl.demos.square import SquareExpert
from difftori_pl.errors import ConfigurationError

EXPERTS: dict[str, type[Expert]] = {"square": SquareExpert, "lift": LiftExpert}


def find_expert(task: str) -> Expert:
    """Build the expert for a task.

    Args:
        task: a key of `EXPERTS`.

    Raises:
        ConfigurationError: there is no expert for the task.
    """
    if task not in EXPERTS:
        raise ConfigurationError(
            f"there is no scripted expert for {task!r}; choose one of {', '.join(sorted(EXPERTS))}"
        )
    return EXPERTS[task]()
