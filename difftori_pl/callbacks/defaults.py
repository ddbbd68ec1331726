"""Callbacks that the command line adds to each run."""

from collections.abc import Sequence
from typing import Any

from lightning import Callback
from lightning.pytorch.callbacks import ModelSummary, ProgressBar

from difftori_pl.callbacks.error_line import ErrorLine
from difftori_pl.callbacks.log_interval import LogInterval
from difftori_pl.callbacks.parameter_count import ParameterCount
from difftori_pl.callbacks.progress import Progress


def add_defaults(config: dict[str, Any], callbacks: Sequence[Callback]) -> tuple[dict[str, Any], list[Callback]]:
    """Add `Progress`, `ParameterCount`, `LogInterval` and `ErrorLine`, except where the user chose otherwise.

    A progress bar or a model summary among the user's callbacks, `enable_progress_bar: false` and any value of
    `enable_model_summary` are left as they are.

    Args:
        config: arguments of the trainer.
        callbacks: callbacks that are added to those of the user.

    Returns:
        The arguments of the trainer and the callbacks to add.
    """
    given = config.get("callbacks") or []
    present = [*(given if isinstance(given, list) else [given]), *callbacks]
    added: list[Callback] = [LogInterval(config.get("log_every_n_steps")), ErrorLine()]
    if config.get("enable_progress_bar") is not False and not _contains(present, ProgressBar):
        added.append(Progress())
    if config.get("enable_model_summary") is None and not _contains(present, ModelSummary):
        config = {**config, "enable_model_summary": False}
        added.append(ParameterCount())
    return config, [*callbacks, *added]


def _contains(callbacks: Sequence[Callback], kind: type[Callback]) -> bool:
    return any(isinstance(callback, kind) for callback in callbacks)
