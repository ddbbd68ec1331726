"""Leave out Lightning's messages that do not concern a user of the command line."""

import logging
import re
import warnings

LOGGERS = (
    # Loggers of Lightning's `rank_zero_info`, which this package uses too.
    "lightning.pytorch.utilities.rank_zero",
    "lightning.fabric.utilities.rank_zero",
    "lightning.fabric.utilities.seed",
    "lightning.pytorch.accelerators.cuda",
)
"""Loggers whose messages are filtered."""

MESSAGES = re.compile(
    "|".join(
        (
            r"(\[rank: \d+\] )?Seed set to \d+",
            r"LOCAL_RANK: \d+ - CUDA_VISIBLE_DEVICES: ",
            r"GPU available: .*, used: ",
            r"TPU available: .*, using: ",
            r".*try installing \[lit(logger|models)\]",
            # `ParameterCount` names the number of processes.
            r"-+\ndistributed_backend=",
            # `--matmul_precision` sets it; the default is intended.
            r"You are using a CUDA device .* that has Tensor Cores",
            # "Loaded model weights" and "Restored all states" name the file again.
            r"Restoring states from the checkpoint path",
            # The last line of progress says it.
            r"`Trainer\.fit` stopped: `max_(steps|epochs)=.*` reached",
        )
    )
)
"""Beginnings of log messages that are left out."""

WARNINGS = (
    # Lightning 2.6 itself uses a deprecated name of torch.
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",
    # Frozen base policies and critics are in evaluation mode on purpose.
    r"Found \d+ module\(s\) in eval mode at the start of training",
    # Lightning compares the interval with an epoch, but counts it over the run. `LogInterval` compares it with the run.
    r"The number of training batches \(\d+\) is smaller than the logging interval",
    # Data in memory need no worker processes.
    r"The '\w+' does not have many workers",
)
"""Beginnings of warnings that are left out."""

EVALUATION_WARNINGS = (
    # It concerns checkpoints that are saved later, and only training saves any.
    r"The dirpath has changed",
)
"""Further ones that matter only in training."""


def leave_out_messages() -> None:
    """Install the filters of log messages and warnings. Other messages of the same loggers stay."""
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.removeFilter(_concerns_the_user)
        logger.addFilter(_concerns_the_user)
    _ignore(WARNINGS)


def leave_out_evaluation_warnings() -> None:
    """Install the filters for commands that do not train."""
    _ignore(EVALUATION_WARNINGS)


def _concerns_the_user(record: logging.LogRecord) -> bool:
    return MESSAGES.match(record.getMessage()) is None


def _ignore(messages: tuple[str, ...]) -> None:
    for message in messages:
        warnings.filterwarnings("ignore", message)
