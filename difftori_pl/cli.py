"""The command line of `lightning`, `difftori` and `python -m difftori_pl`.

This file imports nothing that takes long: a command imports what it needs when it is run.
"""

import errno
import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from difftori_pl.arguments.configurations import SHIPPED_CONFIGS as SHIPPED_CONFIGS
from difftori_pl.arguments.configurations import find_configs
from difftori_pl.commands import COMMANDS
from difftori_pl.errors import DiffTORIError, UsageError
from difftori_pl.runtime.processor import set_up_processor

if TYPE_CHECKING:
    from difftori_pl.training import DiffTORICLI

TRAINING = {
    "fit": "train a policy",
    "validate": "evaluate a checkpoint on validation data",
    "test": "evaluate a checkpoint in the simulator",
    "predict": "predict with a checkpoint",
}
"""Commands of LightningCLI and their descriptions."""

_HELP = """usage: {program} COMMAND ...

Differentiable trajectory optimisation as a policy class, on PyTorch Lightning.

{commands}

`{program} COMMAND --help` lists the arguments of a command. To train: {program} fit --config il_square.yaml
A configuration is looked up in the current folder, then among those of the package.
"""


def run(arguments: Sequence[str] | None = None) -> "DiffTORICLI":
    """Run a training or evaluation command and return the CLI object, with its trainer and model.

    Args:
        arguments: the arguments after the program's name; None for those of this process.

    Raises:
        UsageError: an argument or a value in a configuration is wrong.
    """
    given = find_configs(
        sys.argv[1:] if arguments is None else arguments
    )  # a mistake in a file needs no import to report
    set_up_processor()
    from difftori_pl.training import run_training

    return run_training(given)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run any command; on a user error, print one to three lines and exit.

    The exit code is 2 if an argument or a value in a configuration is wrong, or names data that do not exist, and 1
    for all other errors.

    Args:
        arguments: the arguments after the program's name; None for those of this process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())  # so that modules in the current folder are found, as with `python -m`
    try:
        _dispatch(given)
    except UsageError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)
    except Exception as error:
        cause = _user_error(error)
        if cause is None:
            raise
        if _names_no_data(cause):
            sys.stderr.write(f"error: {_in_one_line(cause)}\n")
            sys.exit(2)
        sys.exit(f"error: {_in_one_line(cause)}")


def _dispatch(given: list[str]) -> None:
    name = given[0] if given else ""
    if name in ("-h", "--help"):
        sys.stdout.write(_help())
    elif name in COMMANDS:
        set_up_processor()
        from jsonargparse import auto_cli

        from difftori_pl.arguments.mistakes import ShortErrors
        from difftori_pl.commands.output import show_log

        show_log()
        auto_cli({name: COMMANDS[name].load(name, *given[1:2])}, args=given, parser_class=ShortErrors)
    elif name in TRAINING or name.startswith("-"):
        run(given)
    else:
        near = get_close_matches(name, [*TRAINING, *COMMANDS], n=1)
        advice = f"; did you mean {near[0]}?" if near else f"; choose one of {', '.join([*TRAINING, *COMMANDS])}"
        raise UsageError(f"{name}: no such command{advice}" if name else f"expected a command, got none{advice}")


def _help() -> str:
    summaries = TRAINING | {name: command.summary for name, command in COMMANDS.items()}
    listed = "\n".join(f"  {name:<12}{summary}" for name, summary in summaries.items())
    return _HELP.format(program=os.path.basename(sys.argv[0]).replace("__main__.py", "difftori"), commands=listed)


def _user_error(error: BaseException | None) -> BaseException | None:
    """Return the user error behind an exception, or None: the parser wraps exceptions of constructors.

    A full disk, a missing package and Lightning's `MisconfigurationException` also count as user errors.
    """
    from datamodules.errors import DataError

    lightning: Any = sys.modules.get("lightning.fabric.utilities.exceptions")  # not imported for this purpose
    kinds = (ModuleNotFoundError, *((lightning.MisconfigurationException,) if lightning else ()))
    while error is not None and not isinstance(error, (DiffTORIError, DataError)):
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            break
        if isinstance(error, kinds):
            break
        error = error.__cause__ or error.__context__
    return error


def _in_one_line(error: BaseException) -> str:
    return " ".join(str(error).split())


def _names_no_data(error: BaseException) -> bool:
    from datamodules.errors import MissingDataError

    return isinstance(error, MissingDataError)


def __getattr__(name: str) -> Any:
    if name == "DiffTORICLI":
        from difftori_pl.training import DiffTORICLI

        return DiffTORICLI
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
