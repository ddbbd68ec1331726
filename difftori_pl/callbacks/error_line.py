"""Print the results of a test on demonstrations in one line instead of Lightning's table."""

from lightning import Callback, LightningModule, Trainer
from lightning_utilities.core.rank_zero import rank_zero_info


class ErrorLine(Callback):
    """Log the errors of the policy and its base policy on the test demonstrations; the loggers record all values.

    A module that logs no `test/action_error` has all its `test/` values printed.
    """

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the line."""
        del pl_module
        found = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        errors = {word: found[name] for word, name in _ERRORS.items() if name in found}
        title = "squared error of the actions on test demonstrations, in training units" if errors else "test"
        values = errors or {name.removeprefix("test/"): value for name, value in found.items()}
        if values:
            rank_zero_info(f"{title}: {', '.join(f'{name} {value:.4g}' for name, value in values.items())}")


_ERRORS = {"policy": "test/action_error", "base": "test/base_action_error"}
"""Word in the line -> name of the logged value."""
